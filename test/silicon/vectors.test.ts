import { vectorsAgree } from './vector-tests.ts';

/** 64-bit code; vectors-narrow.test.ts has the other modes, so that two processors share the work. */
vectorsAgree(['code64']);
