import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { GdbConnection } from './connection.ts';
import { Debuggee } from './debuggee.ts';
import { encodePacket, hexBytes } from './packets.ts';

/** Nothing comes for so long: nothing more will. */
const QUIET_MILLISECONDS = 50;

describe('the connection to gdb', () => {
  let server: Server;
  let client: Socket;
  let text: string;

  beforeEach(async () => {
    const machine = createMachine({ memory: 4 * 2 ** 20 });
    machine.boot({ name: 'spin', image: Uint8Array.of(0xeb, 0xfe), commandLine: '', modules: [], format: 'flat' });
    server = createServer((socket) => void new GdbConnection(socket, new Debuggee(machine, () => {}), () => {}));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    text = '';
    client.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
    });
    await once(client, 'connect');
  });
  afterEach(() => {
    client.destroy();
    server.close();
  });

  /** Sends bytes. @returns what comes, when nothing more does */
  async function say(bytes: string): Promise<string> {
    text = '';
    client.write(bytes, 'latin1');
    for (let known = -1; known !== text.length || text === ''; ) {
      known = text.length;
      await new Promise((resolve) => setTimeout(resolve, QUIET_MILLISECONDS));
    }
    return text;
  }
  const packet = (data: string): string => encodePacket(data).toString('latin1');
  const command = (line: string): string => packet(`qRcmd,${hexBytes(Buffer.from(line))}`);

  it('sends a packet again that was refused, and the next one when it was taken', async () => {
    assert.equal(await say(packet('qC')), `+${packet('QC1')}`);
    assert.equal(await say('-'), packet('QC1'));
    assert.equal(await say('-'), packet('QC1'));
    // Text of the console and the answer are two packets.
    const output = await say(`+${command('position')}`);
    assert.match(output, /^\+\$O[0-9a-f]+#..$/);
    assert.equal(await say('-'), output.slice(1));
    assert.equal(await say('+'), packet('OK'));
    assert.equal(await say('-'), packet('OK'));
  });

  it('asks for a packet again whose checksum is wrong', async () => {
    assert.equal(await say('$qC#00'), '-');
    assert.equal(await say(packet('qC')), `+${packet('QC1')}`);
  });

  it('takes a packet for the acknowledgement of what came before, and refuses nothing afterwards', async () => {
    await say(command('position'));
    assert.equal(await say(packet('qC')), `${packet('OK')}+${packet('QC1')}`);
    assert.equal(await say(`+-${packet('qC')}`), `+${packet('QC1')}`);
  });

  it('does without acknowledgements when gdb says so', async () => {
    assert.equal(await say(packet('QStartNoAckMode')), `+${packet('OK')}`);
    assert.match(await say(`+${command('position')}`), /^\$O[0-9a-f]+#..\$OK#9a$/);
  });
});
