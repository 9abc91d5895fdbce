/** Vectors of the exceptions that the simulator raises (SDM Vol. 3A, "Exception and Interrupt Reference"). */
export const VECTOR = {
  de: 0, db: 1, nmi: 2, bp: 3, of: 4, br: 5, ud: 6, nm: 7, df: 8, ts: 10, np: 11, ss: 12, gp: 13, pf: 14, mf: 16,
  ac: 17, mc: 18, xm: 19, ve: 20, cp: 21,
} as const; // biome-ignore format: a table reads better in rows
