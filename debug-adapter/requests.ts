import type { HandlerTable } from './handler.ts';
import { breakpointRequests } from './requests/breakpoints.ts';
import { dataBreakpointRequests } from './requests/data-breakpoints.ts';
import { disassemblyRequests } from './requests/disassembly.ts';
import { evaluationRequests } from './requests/evaluation.ts';
import { exceptionRequests } from './requests/exceptions.ts';
import { executionRequests } from './requests/execution.ts';
import { lifecycleRequests } from './requests/lifecycle.ts';
import { memoryRequests } from './requests/memory.ts';
import { snapshotRequests } from './requests/snapshots.ts';
import { sourceRequests } from './requests/sources.ts';
import { stackRequests } from './requests/stack.ts';
import { timeTravelRequests } from './requests/time-travel.ts';
import { variableRequests } from './requests/variables.ts';
import { iommuRequests } from './views/iommu-views.ts';
import { vmxRequests } from './views/vmx-views.ts';

/** Every request that the adapter answers. */
export const REQUESTS: HandlerTable = {
  ...lifecycleRequests,
  ...breakpointRequests,
  ...dataBreakpointRequests,
  ...exceptionRequests,
  ...executionRequests,
  ...stackRequests,
  ...variableRequests,
  ...memoryRequests,
  ...disassemblyRequests,
  ...evaluationRequests,
  ...sourceRequests,
  ...vmxRequests,
  ...iommuRequests,
  ...timeTravelRequests,
  ...snapshotRequests,
};
