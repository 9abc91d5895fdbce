import assert from 'node:assert/strict';
import { Code, type Signature } from './code.ts';
import { ModuleBuilder } from './module.ts';
import { type I32, type I64, Int, i32, i64, load32, select, Value } from './value.ts';
import { lanes32, shuffle, simd, storeVector } from './vector.ts';

const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
const table = new WebAssembly.Table({ element: 'anyfunc', initial: 1 });

/** Builds one function from a body over its parameters. */
function build(signature: Signature, body: (code: Code) => void): CallableFunction {
  const code = new Code(signature);
  body(code);
  const builder = new ModuleBuilder();
  builder.add(code);
  assert(WebAssembly.validate(builder.encode(1)));
  return builder.instantiate({ memory, table, functions: {} })[0] as CallableFunction;
}

const PAIR: Signature = { parameters: ['i32', 'i32'], results: ['i32'] };

describe('Code and ModuleBuilder', () => {
  it('build functions that compute', () => {
    const f = build(PAIR, (code) => {
      const [a, b] = [code.parameter(0, 'i32'), code.parameter(1, 'i32')];
      code.result(select(a.ltS(b), a.add(b), a.sub(b).mul(10)));
    });
    assert.equal(f(1, 2), 3);
    assert.equal(f(5, 2), 30);
  });

  it('evaluate a kept value once, before what follows', () => {
    const f = build(PAIR, (code) => {
      const at = i32(64);
      code.store(4, at, code.parameter(0, 'i32'));
      const before = code.let(load32(at));
      code.store(4, at, code.parameter(1, 'i32'));
      code.result(before.shl(8).or(load32(at)));
    });
    assert.equal(f(3, 4), 0x304);
  });

  it('branch, loop and leave blocks', () => {
    const sum = build({ parameters: ['i32'], results: ['i32'] }, (code) => {
      const left = code.variable('i32', code.parameter(0, 'i32'));
      const total = code.variable('i32', i32(0));
      code.block((leave) => {
        code.loop((again) => {
          leave(left.get().eqz());
          total.set(total.get().add(left.get()));
          left.set(left.get().sub(1));
          again();
        });
      });
      code.result(total.get());
    });
    assert.equal(sum(100), 5050);
  });

  it('call imported functions', () => {
    const builder = new ModuleBuilder();
    const twice = builder.import('twice', { parameters: ['i32'], results: ['i32'] });
    const code = new Code({ parameters: ['i32'], results: ['i32'] });
    code.result(code.call('i32', twice, [code.parameter(0, 'i32')]).add(1));
    builder.add(code);
    const [f] = builder.instantiate({ memory, table, functions: { twice: (value: number) => 2 * value } });
    assert.equal((f as CallableFunction)(20), 41);
  });

  it('store and combine vectors', () => {
    const f = build({ parameters: [], results: [] }, (code) => {
      const doubled = simd('i32x4.add', lanes32(3n), lanes32(4n));
      storeVector(code, 16, i32(128), shuffle(4, doubled, lanes32(1n), [0, 4, 1, 5]));
      storeVector(code, 4, i32(128), lanes32(9n));
    });
    f();
    assert.deepEqual([...new Int32Array(memory.buffer, 128, 4)], [9, 1, 7, 1]);
  });

  it('fold operations on constants as WebAssembly computes them', () => {
    const values = [0n, 1n, -1n, 5n, 31n, 33n, 0x7fff_ffffn, -0x8000_0000n];
    const operations = ['add', 'sub', 'mul', 'and', 'or', 'xor', 'shl', 'shrS', 'shrU', 'eq', 'ltU', 'geS'] as const;
    for (const operation of operations) {
      const [narrow, wide] = [
        build(PAIR, (code) => code.result(code.parameter(0, 'i32')[operation](code.parameter(1, 'i32')))),
        build({ parameters: ['i64', 'i64'], results: ['i64'] }, (code) =>
          code.result(code.parameter(0, 'i64')[operation](code.parameter(1, 'i64')).extendS()),
        ),
      ];
      for (const a of values) {
        for (const b of values) {
          const folded: I32 = i32(a)[operation](i32(b));
          assert.equal(folded.constant, BigInt(narrow(Number(a), Number(b))), `i32 ${a} ${operation} ${b}`);
          const foldedWide: I32 | I64 = i64(a)[operation](i64(b));
          assert.equal(foldedWide.constant, wide(a, b), `i64 ${a} ${operation} ${b}`);
        }
      }
    }
  });

  it('refuse to combine values of different widths', () => {
    const mixed = () => (i32(1) as Int).add(i64(1) as Int);
    assert.throws(mixed, TypeError);
    assert(new Int('i32', () => {}) instanceof Value);
  });
});
