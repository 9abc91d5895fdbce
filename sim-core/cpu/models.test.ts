import assert from 'node:assert/strict';
import { Code, CodeExt, EncodingKind, Mnemonic } from 'iced-x86';
import { cpuid } from './cpuid.ts';
import { FEATURES, type FeatureName, featureBits } from './features.ts';
import { featuresOf, meaningOn } from './instruction-features.ts';
import { findModel, MODEL_NAMES } from './models.ts';
import { readMsr, writeMsr } from './msrs.ts';
import { newCpu } from './test-cpu.ts';

const NAMES = Object.keys(FEATURES) as FeatureName[];
/** Encodings that are not EVEX, MVEX or AMD's. */
const CODES = Object.values(Code).filter(
  (code): code is Code => typeof code === 'number' && CodeExt.opCode(code).encoding <= EncodingKind.VEX,
);

/** Features without instructions of their own: what they bring is tested where it is simulated. */
const WITHOUT_INSTRUCTIONS: ReadonlySet<FeatureName> = new Set([
  'de', 'pse', 'pae', 'mce', 'apic', 'mtrr', 'pge', 'mca', 'pat', 'pse36', 'pdcm', 'pcid', 'x2apic', 'tscDeadline',
  'tscAdjust', 'smep', 'erms', 'umip', 'la57', 'xgetbv1', 'lahf', 'nx', 'gigabytePages', 'longMode', 'invariantTsc',
  'archCapabilities',
]); // biome-ignore format: a table reads better in rows

describe('Processor models', () => {
  it('have features with a CPUID bit each', () => {
    const places = NAMES.map((name) => `${FEATURES[name].leaf} ${FEATURES[name].register} ${FEATURES[name].bit}`);
    assert.equal(new Set(places).size, places.length);
  });

  it('have an instruction for each feature that is one of instructions', () => {
    const brought = new Set(CODES.flatMap((code) => featuresOf(code)));
    assert.deepEqual(NAMES.filter((name) => !brought.has(name)).sort(), [...WITHOUT_INSTRUCTIONS].sort());
  });

  for (const name of MODEL_NAMES) {
    it(`${name}: CPUID reports its features and no others`, () => {
      const cpu = newCpu(name);
      // The flag of the local APIC follows IA32_APIC_BASE.EN.
      cpu.state.set64('msrApicBase', 0xfee0_0900n);
      const { features } = cpu.model;
      const reported = (leaf: number, subleaf: number): readonly [number, number, number, number] =>
        cpuid(cpu, leaf, subleaf);
      const [, , ecx1, edx1] = reported(1, 0);
      assert.equal(ecx1, featureBits(features, 1, 'ecx'));
      assert.equal(edx1, featureBits(features, 1, 'edx'));
      const [, ebx7, ecx7, edx7] = reported(7, 0);
      assert.deepEqual(
        [ebx7, ecx7, edx7],
        [featureBits(features, 7, 'ebx'), featureBits(features, 7, 'ecx'), featureBits(features, 7, 'edx')],
      );
      const [, , ecx, edx] = reported(0x8000_0001, 0);
      assert.deepEqual(
        [ecx, edx],
        [featureBits(features, 0x8000_0001, 'ecx'), featureBits(features, 0x8000_0001, 'edx')],
      );
      // SDM Vol. 2A, "CPUID": EAX[15:8] of leaf 80000008H is the linear-address width.
      assert.equal((reported(0x8000_0008, 0)[0] >>> 8) & 0xff, features.has('la57') ? 57 : 48);
    });

    it(`${name}: leaf 0AH says what the counters do`, () => {
      const cpu = newCpu(name);
      const [eax, ebx, , edx] = cpuid(cpu, 0xa, 0);
      // Version 2; architectural events 0 to 2; the counters' MSRs exist, and no more.
      assert.equal(eax & 0xff, 2);
      assert.equal(ebx, 0b111_1000);
      const general = (eax >>> 8) & 0xff;
      const fixed = edx & 0x1f;
      assert.equal(readMsr(cpu, 0xc1 + general - 1), 0n);
      assert.equal(readMsr(cpu, 0xc1 + general), undefined);
      assert.equal(readMsr(cpu, 0x309 + fixed - 1), 0n);
      assert.equal(readMsr(cpu, 0x309 + fixed), undefined);
    });

    it(`${name}: IA32_ARCH_CAPABILITIES says that nothing is speculated on, and can only be read`, () => {
      const cpu = newCpu(name);
      const capabilities = readMsr(cpu, 0x10a) ?? 0n;
      // SDM Vol. 4: RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO.
      assert.equal(capabilities & 0x1ffn, 0x179n);
      // IBRS_ALL (1), RSBA (2) and the bits that promise further MSRs (7, 10, 11, 18, 23, 25) are clear.
      assert.equal(capabilities & 0x284_0c86n, 0n);
      assert.equal(writeMsr(cpu, 0x10a, capabilities), false);
    });

    it(`${name}: encodings mean something where their features are, LZCNT and TZCNT always`, () => {
      const model = findModel(name);
      for (const code of CODES) {
        const { mnemonic } = CodeExt.opCode(code);
        const there = featuresOf(code).every((feature) => model.features.has(feature));
        const otherwise =
          mnemonic === Mnemonic.Lzcnt ? Mnemonic.Bsr : mnemonic === Mnemonic.Tzcnt ? Mnemonic.Bsf : undefined;
        assert.equal(meaningOn(model, code, mnemonic), there ? mnemonic : otherwise, Code[code]);
      }
    });
  }
});
