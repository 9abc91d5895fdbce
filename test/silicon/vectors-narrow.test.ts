import { vectorsAgree } from './vector-tests.ts';

vectorsAgree(['code32', 'code16']);
