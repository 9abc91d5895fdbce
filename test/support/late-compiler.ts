import type { CompiledRegion, RegionCompiler, RegionJob } from '../../sim-core/engine/region-job.ts';
import { RegionWorkshop } from '../../sim-core/engine/region-workshop.ts';
import type { Semantics } from '../../sim-core/engine/stage.ts';

/** Compiles regions as another thread would, from copies of what it is told, and answers when it likes. */
export class LateCompiler implements RegionCompiler {
  readonly isFree = true;
  /** Jobs that have no answer yet. */
  readonly waiting: RegionJob[] = [];
  answered = 0;
  private readonly workshop: RegionWorkshop;
  private readonly isDone: () => boolean;

  /** @param isDone whether the next job is done: asked until it is not */
  constructor(semantics: ReadonlyMap<number, Semantics>, isDone: () => boolean) {
    this.workshop = new RegionWorkshop(semantics);
    this.isDone = isDone;
  }

  request(job: RegionJob): void {
    this.waiting.push(structuredClone(job));
  }

  take(): readonly CompiledRegion[] {
    const regions: CompiledRegion[] = [];
    while (this.waiting.length > 0 && this.isDone()) {
      regions.push(this.workshop.compile(this.waiting.shift() as RegionJob));
      this.answered++;
    }
    return regions;
  }
}
