/**
 * Nodes and GPUs: what every node has and how much of it is taken, and for every GPU who holds which share of it beside
 * what it really does. A GPU that is reserved and idle says so.
 */
import { Child, h, VNode } from '../dom.js';
import { amountsText, bytesPairText, countText, shortId } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { bar, button, cellLink, chip, commandButton, head, note, span } from '../parts.js';
import { IHolderRow, INodeRow } from '../schema.js';
import { meter, scaling } from '../sections/cluster.js';

interface IUi {
  wanted: number | null;
}

const ROWS_MAX = 200;
/** Below this share of use a reserved GPU is called idle. */
const IDLE_SHARE = 0.02;

export const nodes: IPanel<IUi> = {
  title: 'Nodes & GPUs',
  begin: () => ({ wanted: null }),
  draw: context => {
    const rows = context.state.rows('nodes');
    const alive = rows.filter(row => row.alive).length;
    const hidden = context.state.values.nodes_hidden + Math.max(0, rows.length - ROWS_MAX);
    return [
      head('Nodes', span(`${countText(alive)} alive`, 'rb-dim rb-small'), scaler(context, alive)),
      scaling(context),
      ...(rows.length > 0 ? rows.slice(0, ROWS_MAX).map(row => node(context, row)) : [note('No node is known yet.')]),
      hidden > 0 ? note(`and ${hidden} more nodes`) : null
    ];
  }
};

function scaler(context: IContext<IUi>, alive: number): VNode | null {
  if (!context.commands.can('scale')) {
    return null;
  }
  const wanted = context.ui.wanted ?? alive;
  const less = button('−', () => context.set({ wanted: Math.max(1, wanted - 1) }), { 'aria-label': 'One node fewer' });
  const more = button('+', () => context.set({ wanted: wanted + 1 }), { 'aria-label': 'One node more' });
  const go = commandButton(context, `Scale to ${wanted}`, 'scale', { nodes: wanted }, `make it ${wanted} nodes`);
  return h('span', { class: 'rb-push rb-pair', role: 'group', 'aria-label': 'Number of nodes' }, less, more, wanted === alive ? null : go);
}

function node(context: IContext<IUi>, row: INodeRow): VNode {
  const [tone, word] = row.alive ? (row.draining ? ['warn', 'leaving'] : ['good', 'alive']) : row.left ? ['dim', 'left'] : ['bad', 'lost'];
  const gpuTotal = row.resources.find(resource => resource.name === 'GPU')?.total ?? 0;
  return h(
    'div',
    { class: 'rb-node', key: row.node_id, 'data-node': row.node_id },
    h(
      'div',
      { class: 'rb-head' },
      span(row.hostname || row.address || shortId(row.node_id), 'rb-code', row.node_id),
      row.is_head ? span('head', 'rb-badge rb-quiet') : null,
      chip(word, tone, row.draining || row.death || undefined),
      row.cpu_percent ? span(`${row.cpu_percent.toFixed(0)} % CPU in use`, 'rb-dim rb-small') : null,
      row.alive ? h('div', { class: 'rb-meters rb-push' }, row.resources.filter(resource => resource.name !== 'object_store_memory').map(meter)) : null
    ),
    row.alive && (gpuTotal > 0 || row.gpus.length > 0) ? gpus(context, row, gpuTotal) : null,
    row.alive && gpuTotal === 0 && row.holders.length > 0
      ? h('div', { class: 'rb-small rb-dim rb-holders' }, row.holders.map(holder => holderLine(context, holder)))
      : null
  );
}

function gpus(context: IContext<IUi>, row: INodeRow, total: number): VNode {
  const reserved = row.resources.find(resource => resource.name === 'GPU')?.used ?? 0;
  const holders = row.holders.filter(holder => (holder.resources.GPU ?? 0) > 0);
  const measured: Child[] = row.gpus.map(gpu => {
    const memory = gpu.memory_total_bytes > 0 ? gpu.memory_used_bytes / gpu.memory_total_bytes : 0;
    const use = `${(100 * gpu.utilization).toFixed(0)} %`;
    return h(
      'div',
      { class: 'rb-gpu', key: gpu.index },
      span(`GPU ${gpu.index}`, 'rb-code'),
      bar([{ tone: 'run', share: gpu.utilization, word: 'busy' }], `GPU ${gpu.index} ${use} busy`),
      span(use, 'rb-num rb-small'),
      bar([{ tone: memory > 0.9 ? 'bad' : 'good', share: memory, word: 'memory' }], `GPU ${gpu.index} memory ${bytesPairText(gpu.memory_used_bytes, gpu.memory_total_bytes, ' of ')}`),
      span(bytesPairText(gpu.memory_used_bytes, gpu.memory_total_bytes), 'rb-num rb-small')
    );
  });
  const idle = reserved > 0 && row.gpus.length > 0 && row.gpus.every(gpu => gpu.utilization < IDLE_SHARE);
  const stretches = holders.map((holder, index) => ({ tone: index % 2 ? 'good' : 'run', share: holder.resources.GPU / total, word: holder.name }));
  const known = holders.reduce((sum, holder) => sum + holder.resources.GPU, 0);
  const others = reserved - known;
  return h(
    'div',
    { class: 'rb-gpus' },
    measured,
    h(
      'div',
      { class: 'rb-gpu' },
      span('reserved', 'rb-dim'),
      bar([...stretches, ...(others > 1e-6 ? [{ tone: 'warn', share: others / total, word: 'tasks' }] : [])], `${countText(reserved)} of ${countText(total)} GPUs reserved`),
      span(`${countText(reserved)}/${countText(total)}`, 'rb-num rb-small'),
      h(
        'span',
        { class: 'rb-small rb-holders' },
        holders.map(holder => holderLine(context, holder)),
        others > 1e-6 ? span(`${countText(Math.round(others * 1e4) / 1e4)} GPU by tasks`, 'rb-dim') : null,
        idle ? span('reserved, but idle', 'rb-warn') : null
      )
    )
  );
}

function holderLine(context: IContext<IUi>, holder: IHolderRow): VNode {
  return h('span', { key: holder.actor_id, class: 'rb-holder' }, span(holder.name, 'rb-code'), ` ${amountsText(holder.resources)} `, cellLink(context, holder.cell));
}
