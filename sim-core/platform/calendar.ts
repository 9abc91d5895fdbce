/** Dates without the host's clock: the proleptic Gregorian calendar in UTC. */

export interface CivilTime {
  readonly year: number;
  /** 1…12 */
  readonly month: number;
  /** 1…31 */
  readonly day: number;
  readonly hours: number;
  readonly minutes: number;
  readonly seconds: number;
}

export const SECONDS_PER_DAY = 86_400;
/** 1 January 1970 was a Thursday; Sunday is 0. */
const FIRST_WEEKDAY = 4;

const isLeap = (year: number): boolean => (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
const daysInMonth = (year: number, month: number): number =>
  month === 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31;

/** Days before 1 January of a year, counted from year 1. */
function daysBeforeYear(year: number): number {
  const past = year - 1;
  return past * 365 + Math.floor(past / 4) - Math.floor(past / 100) + Math.floor(past / 400);
}

const EPOCH_DAYS = daysBeforeYear(1970);

/** Days since 1 January 1970. */
const dayNumber = (seconds: number): number => Math.floor(seconds / SECONDS_PER_DAY);

/** @param seconds since 1 January 1970, UTC */
export function civilTime(seconds: number): CivilTime {
  let year = 1970 + Math.floor(dayNumber(seconds) / 365.2425);
  while (daysBeforeYear(year) - EPOCH_DAYS > dayNumber(seconds)) year--;
  while (daysBeforeYear(year + 1) - EPOCH_DAYS <= dayNumber(seconds)) year++;
  let day = dayNumber(seconds) - (daysBeforeYear(year) - EPOCH_DAYS);
  let month = 1;
  while (day >= daysInMonth(year, month)) {
    day -= daysInMonth(year, month);
    month++;
  }
  const ofDay = seconds - dayNumber(seconds) * SECONDS_PER_DAY;
  return {
    year,
    month,
    day: day + 1,
    hours: Math.floor(ofDay / 3600),
    minutes: Math.floor(ofDay / 60) % 60,
    seconds: ofDay % 60,
  };
}

/** Seconds since 1 January 1970. Fields beyond their range carry over into the next larger one. */
export function secondsOf({ year, month, day, hours, minutes, seconds }: CivilTime): number {
  let days = daysBeforeYear(year) - EPOCH_DAYS + day - 1;
  for (let past = 1; past < month; past++) days += daysInMonth(year, past);
  return days * SECONDS_PER_DAY + hours * 3600 + minutes * 60 + seconds;
}

/** Sunday is 0. */
export const weekday = (seconds: number): number => (((dayNumber(seconds) + FIRST_WEEKDAY) % 7) + 7) % 7;
