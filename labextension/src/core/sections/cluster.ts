/**
 * The cluster's line: name, state, nodes, resources in use, and why nodes come and go.
 */
import { Child, h, VNode } from '../dom.js';
import { bytesPairText, countText, resourceText } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { bar, button, chip, span } from '../parts.js';
import { IResourceRow } from '../schema.js';

interface IUi {
  /** The stop button was pressed once. */
  asking: boolean;
}

const STATES: Record<string, [string, string]> = {
  RUNNING: ['good', 'running'],
  STOPPED: ['dim', 'stopped'],
  LEFT: ['dim', 'left, still running'],
  LOST: ['bad', 'connection lost']
};

export const cluster: IPanel<IUi> = {
  title: 'Cluster',
  begin: () => ({ asking: false }),
  draw: context => [line(context)]
};

function line(context: IContext<IUi>): VNode {
  const { values } = context.state;
  const nodes = context.state.rows('nodes');
  const [tone, word] = STATES[values.cluster_state] ?? ['dim', values.cluster_state.toLowerCase()];
  const alive = nodes.filter(node => node.alive).length + values.nodes_hidden;
  const lost = nodes.filter(node => !node.alive && !node.left).length;
  const leaving = nodes.filter(node => node.alive && node.draining).length;
  const meters: Child[] = values.resources.filter(row => row.name !== 'object_store_memory').map(meter);
  return h(
    'div',
    null,
    h(
      'div',
      { class: 'rb-head rb-cluster' },
      span('raybook', 'rb-title'),
      values.cluster_name ? span(values.cluster_name, 'rb-code rb-dim') : null,
      chip(word, tone),
      h(
        'div',
        { class: 'rb-meters rb-push' },
        alive + lost > 1 ? span(`${alive} nodes`, 'rb-small') : null,
        leaving ? span(`${leaving} leaving`, 'rb-small rb-dim') : null,
        lost ? span(`${lost} lost`, 'rb-small rb-bad') : null,
        meters,
        stopButton(context)
      )
    ),
    scaling(context)
  );
}

function stopButton(context: IContext<IUi>): VNode | null {
  if (!context.commands.can('stop') || context.state.values.cluster_state !== 'RUNNING') {
    return null;
  }
  const given = context.isGiven('stop', {});
  const { asking } = context.ui;
  const press = (): void => {
    context.set({ asking: !asking });
    if (asking) {
      context.give('stop', {});
    }
  };
  return button(given ? 'Stopping…' : asking ? 'Click again to stop' : 'Stop cluster', press, {
    title: 'End this cluster with everything that runs on it',
    'data-command': 'stop',
    disabled: given,
    onblur: () => asking && context.set({ asking: false })
  });
}

export function scaling<U>(context: IContext<U>): VNode | null {
  const { scaling: row, cluster_state } = context.state.values;
  if (row === null || cluster_state !== 'RUNNING') {
    return null;
  }
  const lines = [`nodes: ${[...row.bounds, ...row.pending].join('; ')}`, row.decision];
  lines.push(row.failures.length > 0 ? `failed: ${row.failures[row.failures.length - 1]}` : '', ...row.unmet, ...row.notes);
  return h('div', { class: 'rb-small rb-dim rb-scaling' }, lines.filter(Boolean).map(text => h('div', null, text)));
}

/** "CPU ▇▇▁ 3/8". */
export function meter(resource: IResourceRow): VNode {
  const isBytes = resource.name === 'memory';
  const share = resource.total > 0 ? resource.used / resource.total : 0;
  const words = resourceText(resource.name, resource.used, resource.total);
  return h(
    'span',
    { class: 'rb-meter', title: `${words} reserved`, key: resource.name },
    span(isBytes ? 'Memory' : resource.name, 'rb-dim rb-small'),
    bar([{ tone: 'run', share, word: 'reserved' }], words),
    span(
      isBytes
        ? bytesPairText(resource.used, resource.total)
        : `${countText(resource.used)}/${countText(resource.total)}`,
      'rb-small'
    )
  );
}
