/** The server as a process: over Node's IPC, or over stdio with --stdio. */

import { createConnection, ProposedFeatures } from 'vscode-languageserver/node';
import { serve } from './server.ts';

serve(createConnection(ProposedFeatures.all));
