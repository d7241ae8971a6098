/**
 * Numbers for people: counts, bytes, durations, rates and metrics as short text. The same words as
 * runtime/raybook/observe/format.py, so that text, HTML and live panels read alike. Total: no input is an error.
 */

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

function grouped(text: string): string {
  return text.replace(/\B(?=(\d{3})+(?!\d))/g, ',');
}

export function countText(value: number): string {
  if (!Number.isFinite(value)) {
    return '–';
  }
  if (Number.isInteger(value)) {
    return grouped(String(value));
  }
  const [whole, part] = value.toFixed(4).split('.');
  const kept = part.replace(/0+$/, '');
  return kept ? `${grouped(whole)}.${kept}` : grouped(whole);
}

export function bytesText(value: number): string {
  if (!Number.isFinite(value)) {
    return '–';
  }
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < BYTE_UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  if (unit === 0) {
    return `${Math.trunc(size)} B`;
  }
  return `${size.toFixed(Math.abs(size) < 10 ? 2 : Math.abs(size) < 100 ? 1 : 0)} ${BYTE_UNITS[unit]}`;
}

export function bytesPairText(used: number, total: number, between = '/'): string {
  const [first, second] = [bytesText(used), bytesText(total)];
  const [figure, unit] = first.split(' ');
  return (unit === second.split(' ')[1] ? figure : first) + between + second;
}

export function durationText(microseconds: number): string {
  if (!Number.isFinite(microseconds) || microseconds < 0) {
    return '–';
  }
  if (microseconds < 1e3) {
    return `${microseconds.toFixed(0)} µs`;
  }
  if (microseconds < 1e6) {
    const milliseconds = microseconds / 1e3;
    return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
  }
  const seconds = microseconds / 1e6;
  if (seconds < 60) {
    return `${seconds.toFixed(1)} s`;
  }
  const minutes = Math.floor(seconds / 60);
  const pad = (number: number): string => String(number).padStart(2, '0');
  return minutes < 60
    ? `${minutes} min ${pad(Math.floor(seconds) % 60)} s`
    : `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
}

export function rateText(perSecond: number): string {
  if (!Number.isFinite(perSecond) || perSecond <= 0) {
    return '';
  }
  if (perSecond >= 10_000) {
    return `${(perSecond / 1000).toFixed(1)}k/s`;
  }
  return perSecond >= 10 ? `${grouped(perSecond.toFixed(0))}/s` : `${perSecond.toFixed(1)}/s`;
}

export function metricText(value: number | null): string {
  if (value === null) {
    return '–';
  }
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  }
  if (Number.isInteger(value) && Math.abs(value) < 1e6) {
    return String(value);
  }
  const text = value.toPrecision(4);
  const [digits, exponent] = text.split('e');
  const short = digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits;
  if (exponent !== undefined) {
    return `${short}e${exponent.replace(/^([+-])(\d)$/, '$10$2')}`;
  }
  // As Python's %g: below 0.0001 in exponents.
  return Math.abs(value) < 1e-4 && value !== 0
    ? value.toExponential(3).replace(/\.?0+e/, 'e').replace(/e([+-])(\d)$/, 'e$10$2')
    : short;
}

/** "3/8 CPU", "1.0 GiB/16.0 GiB memory". */
export function resourceText(name: string, used: number, total: number): string {
  return name === 'memory' || name === 'object_store_memory'
    ? `${bytesPairText(used, total)} ${name.replaceAll('_', ' ')}`
    : `${countText(used)}/${countText(total)} ${name}`;
}

/** "GPU 0.5, CPU 1": amounts that somebody holds. */
export function amountsText(amounts: Record<string, number>): string {
  return Object.entries(amounts)
    .filter(([, amount]) => amount > 0)
    .map(([name, amount]) => `${countText(amount)} ${name}`)
    .join(', ');
}

/** The first characters of an id: enough to tell things apart. */
export function shortId(id: string): string {
  return id.length > 12 ? `${id.slice(0, 12)}…` : id;
}
