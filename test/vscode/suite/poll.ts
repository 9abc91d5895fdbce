/** Asks again until the answer satisfies: servers and sessions need a moment. @throws the last answer after `limit` ms. */
export async function eventually<T>(
  ask: () => T | PromiseLike<T>,
  isEnough: (answer: T) => boolean,
  limit = 20_000,
): Promise<T> {
  const end = Date.now() + limit;
  for (;;) {
    const answer = await ask();
    if (isEnough(answer)) return answer;
    if (Date.now() > end) throw new Error(`not in ${limit} ms; the last answer was ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
