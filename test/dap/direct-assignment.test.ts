/** A device that a guest owns: both outcomes of the sample, and DMA faults and the IOMMU over the protocol. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createMachine } from '../../sim-core/machine/machine.ts';
import { useAdapter } from './adapter.ts';
import type { PlainClient } from './plain-client.ts';
import { directAssignment } from './sample.ts';

const { program: PROGRAM, modules: [GUEST = ''] = [] } = directAssignment();
/** Where the VMM keeps the guest's memory: at the first 2 MiB behind itself (first-vmm/vmm.ld). */
const GUEST_MEMORY = 0x20_0000;
/** assignment.h */
const GUEST_BUFFER = 0x18_0000;
const GUEST_VALUE = 0x6e57_da7a_6e57_da7an;

function littleEndian(value: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes.toString('base64');
}

describe('sample direct-assignment', () => {
  const OUTCOMES = [
    {
      iommu: true,
      value: 0,
      lines: [
        '  guest says: DMA has copied my message',
        'VT-d: requester 8 was refused a write at 800000, fault reason 5',
        'Host memory at 180000, which the guest calls its own: untouched',
        "Host memory at 800000, beyond the guest's memory: untouched",
      ],
    },
    {
      iommu: false,
      value: 1,
      lines: [
        '  guest says: DMA has NOT copied my message',
        'Host memory at 180000, which the guest calls its own: WRITTEN BY THE DEVICE',
        "Host memory at 800000, beyond the guest's memory: WRITTEN BY THE DEVICE",
      ],
    },
  ] as const;

  for (const { iommu, value, lines } of OUTCOMES) {
    it(`${iommu ? 'with' : 'without'} VT-d`, () => {
      const machine = createMachine({ memory: 64 * 2 ** 20, devices: [{ kind: 'edu' }], iommu });
      let serial = '';
      machine.serial.onOutput = (byte) => {
        serial += String.fromCharCode(byte);
      };
      const read = (file: string): Uint8Array => new Uint8Array(readFileSync(file));
      const modules = [{ name: 'guest.elf', bytes: read(GUEST), commandLine: '' }];
      machine.boot({ name: 'direct-assignment', image: read(PROGRAM), commandLine: '', modules });
      assert.deepEqual(machine.run(50_000_000), { kind: 'debugExit', value });
      const printed = serial.split('\n');
      assert.deepEqual(
        lines.filter((line) => !printed.includes(line)),
        [],
      );
    });
  }
});

describe('A DMA fault', () => {
  const adapter = useAdapter();
  let client: PlainClient;

  before(async () => {
    client = await adapter.launch(directAssignment({ stopOn: 'none' }));
    await client.request('setExceptionBreakpoints', { filters: ['dmaFault'] });
  });

  it('stops the machine, with requester, address, reason and walk', async () => {
    const stop = await client.run('configurationDone', {});
    assert.equal(stop.body.reason, 'exception');
    assert.equal(stop.body.description, 'DMA fault: 00:01.0');
    assert.equal(stop.body.text, 'DMA write at 0x800000: a second-stage paging entry does not permit writes');
    const { body } = await client.request('exceptionInfo', { threadId: 1 });
    const text = JSON.stringify(body);
    for (const table of ['root entry', 'context entry', 'SS-PML4E', 'SS-PDPTE', 'SS-PDE']) {
      assert.ok(text.includes(table), table);
    }
  });

  it('is in the IOMMU view, beside the device with its domain and pages', async () => {
    const { body } = await client.request('vmxray/iommu');
    const device = body.devices.find(({ ids }) => ids === '1234:11e8');
    assert.equal(device?.summary, 'domain 1');
    assert.deepEqual(device?.pages, [{ address: '0x0', target: '0x200000', size: '0x400000', rights: 'RW' }]);
    assert.deepEqual(
      body.faults.map(({ kind, address }) => [kind, address]),
      [['write', '0x800000']],
    );
    assert.deepEqual(
      body.iotlb.map(({ domain, page, target, stale }) => [domain, page, target, stale]),
      [[1, '0x0', '0x200000', undefined]],
    );
  });

  it("lets memory be read by the device's addresses", async () => {
    const places = [
      `iova:00:01.0:0x${GUEST_BUFFER.toString(16)}`,
      `hpa:0x${(GUEST_MEMORY + GUEST_BUFFER).toString(16)}`,
    ];
    for (const memoryReference of places) {
      const { body } = await client.request('readMemory', { memoryReference, count: 8 });
      assert.equal(body.data, littleEndian(GUEST_VALUE), memoryReference);
    }
    const outside = await client.request('readMemory', { memoryReference: 'iova:00:01.0:0x800000', count: 8 });
    assert.equal(outside.body.data, '');
  });

  it("shows the walk of a device's address", async () => {
    const args = { address: '0x180000', space: 'iova', requester: 8 };
    const { body } = await client.request('vmxray/translate', args);
    assert.equal(body.physical, '0x380000');
    assert.deepEqual(
      body.steps.map(({ table }) => table),
      ['root entry', 'context entry', 'SS-PML4E', 'SS-PDPTE', 'SS-PDE'],
    );
  });

  it('refuses devices that do not exist, with those that do', async () => {
    const launch = adapter.launch(directAssignment({ machine: { devices: ['e1000'] } }));
    await assert.rejects(launch, /launch: .*machine\.devices.*choose from edu/);
  });
});
