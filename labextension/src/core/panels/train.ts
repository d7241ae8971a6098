/**
 * Train: each run with its workers and where they are, the last report, the metric over the reports, step time, checkpoints.
 */
import { Child, h, VNode } from '../dom.js';
import { countText, durationText, metricText, shortId } from '../format.js';
import { IPanel } from '../panel.js';
import { chip, columns, note, span, sparkline } from '../parts.js';
import { ITrainRow } from '../schema.js';

const TONES: Record<string, string> = { RUNNING: 'run', FINISHED: 'good', ERRORED: 'bad', ABORTED: 'warn', RESTARTING: 'warn', RESIZING: 'warn' };

export const train: IPanel<object> = {
  title: 'Train',
  begin: () => ({}),
  draw: ({ state }) => {
    const rows = state.rows('trains');
    return rows.length > 0
      ? rows.map(row => h('div', { class: 'rb-node', key: row.run_id, 'data-run': row.run_id }, run(row, state.nowMs)))
      : [note('No training run has begun yet.')];
  }
};

function run(row: ITrainRow, nowMs: number): Child[] {
  const seconds = row.started_ms > 0 ? ((row.ended_ms || nowMs) - row.started_ms) / 1000 : 0;
  const parts = [
    `${row.workers.length}/${row.workers_wanted || row.workers.length} workers`,
    `${countText(row.reports)} reports`,
    row.step_ms ? `${durationText(row.step_ms * 1000)} a step` : '',
    row.attempt ? `attempt ${row.attempt + 1}` : '',
    seconds >= 1 ? durationText(Math.floor(seconds) * 1e6) : ''
  ];
  const [low, high] = [Math.min(...row.history), Math.max(...row.history)];
  const metrics = Object.entries(row.metrics).map(([name, value]) => `${name} ${metricText(value)}`);
  return [
    h(
      'div',
      { class: 'rb-head' },
      span('Train', 'rb-title'),
      span(row.name || shortId(row.run_id), 'rb-code rb-cut', row.run_id),
      chip(row.state.toLowerCase(), TONES[row.state] ?? 'dim', row.error || undefined),
      span(parts.filter(Boolean).join(' · '), 'rb-dim rb-small'),
      row.value === null
        ? null
        : h('span', { class: 'rb-push rb-pair' }, span(row.metric, 'rb-dim rb-small'), sparkline(row.history, low, high, 'run'), h('strong', null, metricText(row.value)))
    ),
    metrics.length > 0 ? h('div', { class: 'rb-dim rb-small' }, metrics.join(', ')) : null,
    row.error ? h('div', { class: 'rb-bad rb-small' }, row.error) : null,
    row.workers.length > 0 ? workers(row) : null,
    row.latest_checkpoint
      ? h('div', { class: 'rb-small', title: row.checkpoints.join('\n') }, span(`${row.checkpoints.length} checkpoints, the last in `, 'rb-dim'), span(row.latest_checkpoint, 'rb-code'))
      : null
  ];
}

function workers(row: ITrainRow): VNode {
  const titles = [{ title: 'Rank', class: 'rb-num' }, { title: 'Node' }, { title: 'Pid', class: 'rb-num' }, { title: 'GPUs' }];
  const body = row.workers.map(worker =>
    h(
      'tr',
      { key: worker.rank },
      h('td', { class: 'rb-num' }, String(worker.rank)),
      h('td', { title: worker.node_id }, worker.hostname || shortId(worker.node_id)),
      h('td', { class: 'rb-num rb-dim' }, worker.pid ? String(worker.pid) : ''),
      h('td', null, worker.gpus.join(', ') || '–')
    )
  );
  return h('div', { class: 'rb-scroll' }, h('table', { class: 'rb-table' }, columns(titles), h('tbody', null, body)));
}
