/** Run as a program: a debug adapter that speaks DAP on standard input and output. */

import { serveStdio } from './stream.ts';

serveStdio().then(() => process.exit(0));
