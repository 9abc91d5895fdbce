import type { TimelineBody } from '../../debug-adapter/protocol.ts';
import { note, type ViewNode } from './node.ts';

type Exit = TimelineBody['exits'][number];
export type AskTimeline = (args: { from: number; to: number }) => Promise<TimelineBody>;

/** VM exits of one node. */
const GROUP = 100;

/** The timeline: where the machine is, and the VM exits in groups, the latest first; each is a place to go to. */
export function timelineNodes(body: TimelineBody, ask: AskTimeline): ViewNode[] {
  const { start, here, present, inPast, total, first } = body;
  const groups: ViewNode[] = [];
  for (let from = total - ((total - 1) % GROUP) - 1; total > 0 && from + GROUP > first; from -= GROUP) {
    groups.push(groupNode(Math.max(from, first), Math.min(from + GROUP, total), body, ask));
  }
  return [
    {
      id: 'here',
      label: inPast ? 'In the past' : 'Present',
      description: `instruction ${here}${inPast ? ` of ${present}` : ''}`,
      icon: inPast ? 'history' : 'circle-filled',
    },
    ...(inPast ? [placeNode('present', 'Go to the present', present, 'debug-continue')] : []),
    ...(groups.length > 0 ? groups : [note('none', 'No VM exit yet')]),
    placeNode('start', 'Start of the history', start, 'debug-start'),
  ];
}

const placeNode = (place: string, label: string, instructions: number, icon: string): ViewNode => ({
  id: `place ${place}`,
  label,
  description: `instruction ${instructions}`,
  icon,
  place,
  command: 'vmxray.travelHere',
});

function groupNode(from: number, to: number, body: TimelineBody, ask: AskTimeline): ViewNode {
  const { hereExit } = body;
  const isHere = hereExit > from && hereExit <= to;
  return {
    id: `group ${from}`,
    label: `VM exits ${from + 1} to ${to}`,
    ...(isHere ? { description: body.inPast ? 'the machine is here' : 'the latest' } : {}),
    icon: 'list-ordered',
    expanded: isHere,
    children: async () => (await ask({ from, to })).exits.map((exit) => exitNode(exit, hereExit)).reverse(),
  };
}

function exitNode({ number, to, instructions, name, processor, guestRip }: Exit, hereExit: number): ViewNode {
  const isLast = number === hereExit - 1;
  const isFuture = number >= hereExit;
  return {
    id: `exit ${number}`,
    label: `${number + 1}. ${name}`,
    description: `instruction ${instructions}${processor > 0 ? `, processor ${processor}` : ''}, guest RIP ${guestRip}`,
    icon: isLast ? 'arrow-right' : isFuture ? 'circle-outline' : 'circle-small-filled',
    accessibleLabel: `VM exit ${number + 1}, ${name}, at instruction ${instructions}${isLast ? ', the last one' : ''}`,
    place: to,
    value: guestRip,
    command: 'vmxray.travelHere',
  };
}
