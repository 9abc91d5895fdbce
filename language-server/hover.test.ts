import assert from 'node:assert/strict';
import { withoutComments } from './asm/source-line.ts';
import { assemblyHover, cHover } from './hover.ts';

/** The hover at the place that ▮ marks. */
function hover(marked: string, dialect: 'nasm' | 'gas' = 'nasm'): string | undefined {
  const column = marked.indexOf('▮');
  const lines = withoutComments(marked.replace('▮', ''), dialect);
  return assemblyHover(lines, dialect, 0, column)?.markdown;
}

describe('hover in assembly', () => {
  it('tells the forms of an instruction and when it exits', () => {
    const text = hover('  h▮lt') ?? '';
    assert.match(text, /\*\*HLT\*\*/);
    assert.match(text, /\| `HLT` \| `F4` \| all \| INTEL8086 \|/);
    assert.match(text, /Only at CPL 0\./);
    assert.match(text, /VM exit in VMX non-root operation with “HLT exiting” \(HLT\)/);
    assert.match(text, /Instructions That Cause VM Exits Conditionally/);
  });

  it('tells instructions that always exit', () => {
    assert.match(hover('cpu▮id') ?? '', /operation always \(CPUID\)\.[\s\S]*Cause VM Exits Unconditionally/);
  });

  it('knows the suffixes of GNU as and instructions behind a label or prefix', () => {
    assert.match(hover('1: vmread▮q %rax, %rbx', 'gas') ?? '', /`VMREAD r\/m64, r64`/);
    assert.match(hover('  rep ins▮b') ?? '', /\*\*INSB\*\*/);
  });

  it('tells a move to CR3 from other moves', () => {
    assert.match(hover('m▮ov cr3, rax') ?? '', /“CR3-load exiting” or “CR3-store exiting”/);
    assert.doesNotMatch(hover('m▮ov rbx, rax') ?? '', /VM exit/);
  });

  it('tells the VMCS field of an encoding, in every spelling', () => {
    for (const spelling of ['0x681▮E', '681▮Eh', '0x0▮000681e']) {
      assert.match(
        hover(`mov edx, ${spelling}`) ?? '',
        /\*\*GUEST_RIP\*\* · VMCS field `0x681E` · natural width/,
        spelling,
      );
    }
    assert.match(hover('mov $0x68▮1E, %edx', 'gas') ?? '', /GUEST_RIP/);
  });

  it('tells the high half of a 64-bit field', () => {
    assert.match(hover('mov edx, 0x201▮b') ?? '', /EPT_POINTER[\s\S]*`0x201B` is its high half/);
  });

  it('tells fields and exit reasons by their names with usual prefixes', () => {
    assert.match(hover('mov edx, GUEST▮_RIP') ?? '', /0x681E/);
    assert.match(hover('mov edx, VMCS_GUEST▮_RIP') ?? '', /0x681E/);
    assert.match(hover('cmp eax, EXIT_REASON_EPT_▮VIOLATION') ?? '', /basic exit reason 48 .*`0x30`/);
  });

  it('names the bits of control fields', () => {
    assert.match(hover('mov edx, 0x40▮02') ?? '', /- 7: HLT exiting\. HLT causes a VM exit\./);
  });

  it('tells MSRs beside ECX and by name, with their bits in the MSR bitmaps', () => {
    const efer = /\*\*IA32_EFER\*\* · MSR `0xC0000080`[\s\S]*byte 0x410 bit 0, writes by byte 0xC10 bit 0/;
    assert.match(hover('mov ecx, 0xc000▮0080') ?? '', efer);
    assert.match(hover('mov ecx, MSR_▮EFER') ?? '', efer);
    assert.match(hover('mov ecx, 0x▮3a') ?? '', /IA32_FEATURE_CONTROL/);
    assert.equal(hover('add eax, 0x▮3a'), undefined);
  });

  it('says nothing about small numbers, comments and unknown words', () => {
    assert.equal(hover('mov eax, ▮0'), undefined);
    assert.equal(hover('nop ; 0x681▮E'), undefined);
    assert.equal(hover('start▮:'), undefined);
  });
});

describe('hover in C', () => {
  it('explains VMCS encodings and nothing else', () => {
    assert.match(cHover('vmwrite(0x681EULL, rip);', 0, 10)?.markdown ?? '', /GUEST_RIP/);
    assert.equal(cHover('hlt();', 0, 1), undefined);
    assert.equal(cHover('x = 4096;', 0, 5), undefined);
  });
});
