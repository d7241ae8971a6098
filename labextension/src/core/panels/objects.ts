/**
 * Objects: how full the stores are, and the largest objects as a treemap: what it is, how large, who keeps it alive.
 */
import { Child, h, VNode } from '../dom.js';
import { bytesPairText, bytesText, countText, shortId } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { cellLink, columns, commandButton, note, span } from '../parts.js';
import { IObjectRow } from '../schema.js';
import { storeBar, summary } from '../sections/store_line.js';
import { squarified } from './treemap.js';

interface IUi {
  chosen: string;
}

const MAP_WIDTH = 100;
const MAP_HEIGHT = 40;
const MAPPED_MAX = 60;
const ROWS_MAX = 100;

export const objects: IPanel<IUi> = {
  title: 'Object store',
  begin: () => ({ chosen: '' }),
  draw: context => {
    const rows = [...context.state.rows('objects')].sort((a, b) => b.size_bytes - a.size_bytes);
    const stores = context.state.rows('stores');
    return [
      summary(context.state),
      stores.length > 1
        ? h('div', { class: 'rb-tasks' }, stores.flatMap(store => [
            span(shortId(store.node_id), 'rb-code rb-cut', store.node_id),
            storeBar(store.used_bytes, store.capacity_bytes),
            span(bytesPairText(store.used_bytes, store.capacity_bytes, ' of '), 'rb-facts')
          ]))
        : null,
      ...(rows.length > 0 ? [treemap(context, rows), table(context, rows)] : [note('No object lies in shared memory. Small ones travel with their tasks.')])
    ];
  }
};

/** Who keeps it alive, in words. */
export function pinnedBy(row: IObjectRow): string {
  if (row.holders.length > 0) {
    return row.holders.join(', ');
  }
  const parts = [
    row.references ? `${countText(row.references)} ${row.references === 1 ? 'reference' : 'references'} in pid ${row.owner_pid}` : '',
    row.borrowers ? `${countText(row.borrowers)} ${row.borrowers === 1 ? 'borrower' : 'borrowers'}` : ''
  ].filter(Boolean);
  return parts.join(', ') || (row.owner_pid ? `pid ${row.owner_pid}` : '');
}

function treemap(context: IContext<IUi>, rows: IObjectRow[]): VNode {
  const mapped = rows.filter(row => row.size_bytes > 0).slice(0, MAPPED_MAX);
  const rects = squarified(mapped.map(row => row.size_bytes), MAP_WIDTH, MAP_HEIGHT);
  const boxes = mapped.map((row, index) => {
    const { x, y, width, height } = rects[index];
    const place = `left:${x}%;top:${(100 * y) / MAP_HEIGHT}%;width:${width}%;height:${(100 * height) / MAP_HEIGHT}%`;
    const told = `${row.name || shortId(row.object_id)}: ${bytesText(row.size_bytes)}, kept by ${pinnedBy(row)}`;
    return h(
      'button',
      {
        type: 'button',
        key: row.object_id,
        class: 'rb-tile',
        style: place,
        title: told,
        'aria-label': told,
        'aria-pressed': String(context.ui.chosen === row.object_id),
        onclick: () => context.set({ chosen: context.ui.chosen === row.object_id ? '' : row.object_id })
      },
      width > 12 && height > 5 ? [span(row.name || shortId(row.object_id), 'rb-code rb-cut'), span(bytesText(row.size_bytes), 'rb-dim rb-small')] : []
    );
  });
  return h('div', { class: 'rb-treemap', role: 'group', 'aria-label': 'Largest objects' }, boxes);
}

function table(context: IContext<IUi>, rows: IObjectRow[]): Child {
  const { chosen } = context.ui;
  const shown = rows.filter(row => !chosen || row.object_id === chosen).slice(0, ROWS_MAX);
  const titles = [{ title: 'Object' }, { title: 'Made by' }, { title: 'Size', class: 'rb-num' }, { title: 'Kept by' }, { title: '' }];
  const body = shown.map(row =>
    h(
      'tr',
      { key: row.object_id, 'data-object': row.object_id },
      h('td', { class: 'rb-code', title: row.object_id }, shortId(row.object_id)),
      h('td', { class: 'rb-cut' }, span(row.name || row.kind, 'rb-code'), ' ', cellLink(context, row.cell)),
      h('td', { class: 'rb-num' }, bytesText(row.size_bytes)),
      h('td', { class: 'rb-dim rb-small rb-cut', title: pinnedBy(row) }, pinnedBy(row)),
      h('td', { class: 'rb-num' }, commandButton(context, 'Release', 'release', { object_id: row.object_id }, 'let the notebook forget it'))
    )
  );
  return h('div', { class: 'rb-scroll' }, h('table', { class: 'rb-table' }, columns(titles), h('tbody', null, body)));
}
