import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { createMachine } from '../sim-core/machine/machine.ts';
import { Session } from './session.ts';

const SAMPLE = join(import.meta.dirname, '../examples/first-vmm/first-vmm.elf');

describe('a session', () => {
  it('goes on after a mistake in what follows an answer', async () => {
    const received: DebugProtocol.ProtocolMessage[] = [];
    let told: () => void = () => undefined;
    const send = (message: DebugProtocol.ProtocolMessage): void => {
      if ((message as DebugProtocol.Event).event === 'initialized') throw new Error('a mistake');
      received.push(message);
      told();
    };
    const session = new Session({ readFile, send }, createMachine);
    const answer = (seq: number): DebugProtocol.Response | undefined =>
      received.find(
        (message): message is DebugProtocol.Response => 'request_seq' in message && message.request_seq === seq,
      );
    const request = (seq: number, command: string, args: object): Promise<DebugProtocol.Response> =>
      new Promise((resolve) => {
        told = () => {
          const found = answer(seq);
          if (found) resolve(found);
        };
        session.handleMessage({ seq, type: 'request', command, arguments: args });
      });
    assert.equal((await request(1, 'launch', { program: SAMPLE })).success, true);
    assert.equal((await request(2, 'threads', {})).success, true);
    const said = received.filter((message) => (message as DebugProtocol.Event).event === 'output');
    assert.match((said[0] as DebugProtocol.OutputEvent).body.output, /failed at 'launch': Error: a mistake/);
    session.dispose();
  });
});
