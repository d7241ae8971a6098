/**
 * Timeline: a lane for each worker, a rectangle for each task, over the time that the newest tasks span.
 */
import { h, VNode } from '../dom.js';
import { durationText } from '../format.js';
import { note } from '../parts.js';
import { ITaskRow } from '../schema.js';

const TASKS_MAX = 1_500;
const LANES_MAX = 64;
const LANE_HEIGHT = 14;
const WIDTH = 1_000;
const TONES: Record<string, string> = { RUNNING: 'run', FAILED: 'bad', CANCELLED: 'warn' };

export interface IBox {
  task: ITaskRow;
  lane: number;
  x: number;
  width: number;
}

export interface ITimeline {
  boxes: IBox[];
  lanes: string[];
  spanMs: number;
}

/** Where each task stands. x and width: 0 to `WIDTH`. Tasks that never started have no place. */
export function placed(tasks: ITaskRow[], nowMs: number): ITimeline {
  const started = tasks.filter(task => task.started_ms > 0).sort((a, b) => b.started_ms - a.started_ms).slice(0, TASKS_MAX);
  const begin = Math.min(...started.map(task => task.started_ms));
  const end = Math.max(begin + 1, ...started.map(task => task.ended_ms || nowMs));
  const names = new Map<string, number>();
  const boxes: IBox[] = [];
  for (const task of started.reverse()) {
    const lane = `${task.node_id.slice(0, 6)} pid ${task.worker_pid}`;
    if (!names.has(lane)) {
      names.set(lane, names.size);
    }
    const at = names.get(lane) as number;
    if (at < LANES_MAX) {
      const x = (WIDTH * (task.started_ms - begin)) / (end - begin);
      const width = Math.max(1, (WIDTH * ((task.ended_ms || nowMs) - task.started_ms)) / (end - begin));
      boxes.push({ task, lane: at, x, width });
    }
  }
  return { boxes, lanes: [...names.keys()].slice(0, LANES_MAX), spanMs: end - begin };
}

export function timeline(tasks: ITaskRow[], nowMs: number): VNode {
  const { boxes, lanes, spanMs } = placed(tasks, nowMs);
  if (boxes.length === 0) {
    return note('No task has run yet.');
  }
  const height = lanes.length * LANE_HEIGHT;
  const rects = boxes.map(box =>
    h(
      'rect',
      {
        key: box.task.task_id,
        class: `rb-box-${TONES[box.task.state] ?? 'good'}`,
        x: box.x.toFixed(1),
        y: box.lane * LANE_HEIGHT + 1,
        width: box.width.toFixed(1),
        height: LANE_HEIGHT - 2
      },
      h('title', null, `${box.task.name} · ${box.task.state.toLowerCase()} · ${durationText((box.task.duration_ms ?? 0) * 1000)}`)
    )
  );
  const names = lanes.map(lane => h('div', { style: `height:${LANE_HEIGHT}px`, class: 'rb-cut', title: lane }, lane));
  return h(
    'div',
    { class: 'rb-timeline' },
    h('div', { class: 'rb-lanes rb-dim rb-small' }, names),
    h(
      'div',
      { class: 'rb-chart' },
      h(
        'svg',
        {
          viewBox: `0 0 ${WIDTH} ${height}`,
          preserveAspectRatio: 'none',
          style: `height:${height}px`,
          role: 'img',
          'aria-label': `${boxes.length} tasks on ${lanes.length} workers over ${durationText(spanMs * 1000)}`
        },
        rects
      ),
      h('div', { class: 'rb-axis rb-dim rb-small' }, h('span', null, `−${durationText(spanMs * 1000)}`), h('span', null, 'now'))
    )
  );
}
