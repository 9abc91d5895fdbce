/** Node has it, browsers do not; there a message channel is the quickest way behind the waiting messages. */
const immediate: ((callback: () => void) => unknown) | undefined = (
  globalThis as { setImmediate?: (callback: () => void) => unknown }
).setImmediate;

let channel: MessageChannel | undefined;

/** Resolves after the messages that wait now have been handled. */
export function yieldToMessages(): Promise<void> {
  return new Promise((resolve) => {
    if (immediate) {
      immediate(resolve);
      return;
    }
    channel ??= new MessageChannel();
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(undefined);
  });
}
