import { breakpointRequests } from './breakpoints.ts';
import { dataBreakpointRequests } from './data-breakpoints.ts';
import { disassemblyRequests } from './disassembly.ts';
import { evaluationRequests } from './evaluation.ts';
import { exceptionRequests } from './exceptions.ts';
import { executionRequests } from './execution.ts';
import type { HandlerTable } from './handler.ts';
import { iommuRequests } from './iommu-views.ts';
import { lifecycleRequests } from './lifecycle.ts';
import { memoryRequests } from './memory.ts';
import { sourceRequests } from './sources.ts';
import { stackRequests } from './stack.ts';
import { timeTravelRequests } from './time-travel.ts';
import { variableRequests } from './variables.ts';
import { vmxRequests } from './vmx-views.ts';

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
};
