import { REGION } from '../state/layout.ts';
import type { Callee } from './code.ts';
import { declareImports } from './core.ts';
import { ModuleBuilder } from './module.ts';
import { type RecordMemory, RegionBuilder } from './region.ts';
import { type CompiledRegion, decodeBlocks, type JobForm, type RegionJob } from './region-job.ts';
import type { Semantics } from './stage.ts';

/** Compiles regions of one machine, away from it: it needs nothing but the records of their instructions. */
export class RegionWorkshop {
  private readonly semantics: ReadonlyMap<number, Semantics>;
  private readonly forms = new Map<number, JobForm>();
  /** As large as the machine's own memory up to its RAM, so that records keep their addresses; mostly never touched. */
  private readonly memory: RecordMemory;
  private readonly imports = new ModuleBuilder();
  private readonly callees: Readonly<Record<string, Callee>>;

  /** @param semantics of the machine's instructions, by mnemonic number */
  constructor(semantics: ReadonlyMap<number, Semantics>) {
    this.semantics = semantics;
    const buffer = new ArrayBuffer(REGION.ram.start);
    this.memory = { u32: new Uint32Array(buffer), view: new DataView(buffer) };
    this.callees = declareImports(this.imports);
  }

  compile({ id, index, table, memoryPages, forms, blocks }: RegionJob): CompiledRegion {
    for (const form of forms) this.forms.set(form.handler, form);
    const decoded = decodeBlocks(blocks, this.memory.u32, (handler) => this.meaningOf(handler));
    const region = new RegionBuilder(this.memory, this.callees, decoded, index, table);
    const builder = new ModuleBuilder(this.imports);
    builder.add(region.build());
    return { id, table, module: builder.compile(memoryPages), heads: region.heads };
  }

  private meaningOf(handler: number) {
    const known = this.forms.get(handler);
    const semantics = known && this.semantics.get(known.meaning);
    if (!known || !semantics) throw new Error(`nothing is known of handler ${handler}`);
    return { form: known.form, semantics };
  }
}
