/**
 * Work by cell: from a cluster's tasks to what stands beside each cell of a notebook. Pure.
 */

export interface ITaskOfCell {
  state: string;
  /** `In[3]`; "" when that is not known. */
  cell: string;
}

export interface ICell {
  /** What its prompt says: a number, `*` while it runs or waits for its turn, or nothing. */
  prompt: number | '*' | null;
}

export interface IWork {
  running: number;
  waiting: number;
}

/** The number in `In[3]`. */
export function numberOf(cell: string): number | null {
  const match = /^In\[(\d+)\]$/.exec(cell);
  return match === null ? null : Number(match[1]);
}

/**
 * Work for each cell, by its place; places without any are left out. A cell that runs has no number yet: what belongs to a
 * number that no cell shows, and that is higher than all, is that cell's.
 */
export function workByCell(tasks: ITaskOfCell[], cells: ICell[]): Map<number, IWork> {
  const places = new Map<number, number>();
  let highest = 0;
  cells.forEach(({ prompt }, place) => {
    if (typeof prompt === 'number') {
      places.set(prompt, place);
      highest = Math.max(highest, prompt);
    }
  });
  const current = cells.findIndex(({ prompt }) => prompt === '*');
  const found = new Map<number, IWork>();
  for (const task of tasks) {
    const number = numberOf(task.cell);
    const isRunning = task.state === 'RUNNING';
    if (number === null || !(isRunning || task.state.startsWith('PENDING'))) {
      continue;
    }
    const place = places.get(number) ?? (number > highest ? current : -1);
    if (place >= 0) {
      const work = found.get(place) ?? { running: 0, waiting: 0 };
      work[isRunning ? 'running' : 'waiting'] += 1;
      found.set(place, work);
    }
  }
  return found;
}

export function workWords({ running, waiting }: IWork): { short: string; long: string } {
  const parts = [running > 0 ? `${running} running` : '', waiting > 0 ? `${waiting} waiting` : ''].filter(Boolean);
  return { short: running > 0 ? `▶${running}` : `⏳${waiting}`, long: `${parts.join(', ')} on the cluster` };
}
