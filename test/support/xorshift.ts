/** What `XORSHIFT` may begin with. */
export const XORSHIFT_SEED = 88172645463325252n;

/** The next random number in RBX, for programs (Marsaglia, "Xorshift RNGs"; shifts 13, 7, 17); RAX is used for it. */
export const XORSHIFT = `
  mov rax, rbx
  shl rax, 13
  xor rbx, rax
  mov rax, rbx
  shr rax, 7
  xor rbx, rax
  mov rax, rbx
  shl rax, 17
  xor rbx, rax
`;
