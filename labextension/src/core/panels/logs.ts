/**
 * Logs: what workers printed, newest last, filtered by text, level, node and who printed; follows the end until one scrolls
 * up.
 */
import { h, VNode } from '../dom.js';
import { countText, shortId } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { choice, IScroll, NO_SCROLL, searchField, virtualList } from '../lists.js';
import { button, cellLink, note, span } from '../parts.js';
import { ILogRow } from '../schema.js';

interface IUi {
  text: string;
  level: string;
  node: string;
  name: string;
  follows: boolean;
  scroll: IScroll;
}

const ROW_HEIGHT = 18;
const LEVELS: [string, string][] = [['', 'any level'], ['ERROR', 'errors'], ['WARNING', 'warnings'], ['INFO', 'info'], ['DEBUG', 'debug']];

export const logs: IPanel<IUi> = {
  title: 'Logs',
  begin: () => ({ text: '', level: '', node: '', name: '', follows: true, scroll: NO_SCROLL }),
  filter: ui => ({ text: ui.text, level: ui.level, node_id: ui.node, actor_id: ui.name }),
  draw: context => {
    const { ui, state } = context;
    const all = state.rows('logs');
    const lines = chosenLines(all, ui);
    const names = distinct([...all.map(row => row.name), ui.name]);
    const nodes = distinct([...all.map(row => row.node_id), ui.node]);
    return [
      h(
        'div',
        { class: 'rb-tools' },
        searchField('Filter lines', ui.text, text => context.set({ text })),
        choice('Level', ui.level, LEVELS, level => context.set({ level })),
        choice('Node', ui.node, [['', 'any node'], ...nodes.map(node => [node, shortId(node)] as [string, string])], node => context.set({ node })),
        choice('Actor, trial or task', ui.name, [['', 'any name'], ...names.map(name => [name, name] as [string, string])], name => context.set({ name })),
        span(`${countText(lines.length)} lines`, 'rb-dim rb-small'),
        button('Follow', () => context.set({ follows: !ui.follows }), { 'aria-pressed': String(ui.follows), class: 'rb-button rb-push' })
      ),
      lines.length > 0 ? list(context, lines) : note(all.length > 0 ? 'No line matches.' : 'Nothing was printed yet.')
    ];
  }
};

function distinct(words: string[]): string[] {
  return [...new Set(words.filter(Boolean))].sort();
}

export function chosenLines(rows: ILogRow[], ui: { text: string; level: string; node: string; name: string }): ILogRow[] {
  const lower = ui.text.toLowerCase();
  return rows.filter(
    row =>
      (!ui.level || row.level === ui.level) &&
      (!ui.node || row.node_id === ui.node) &&
      (!ui.name || row.name === ui.name) &&
      (!lower || `${row.line} ${row.name} ${row.pid}`.toLowerCase().includes(lower))
  );
}

function list(context: IContext<IUi>, lines: ILogRow[]): VNode {
  const { ui } = context;
  const bottom = Math.max(0, lines.length * ROW_HEIGHT - ui.scroll.height);
  const scroll = ui.follows ? { ...ui.scroll, top: bottom } : ui.scroll;
  const onScroll = (next: IScroll): void => {
    const atEnd = next.top >= lines.length * ROW_HEIGHT - next.height - ROW_HEIGHT;
    context.set({ scroll: next, follows: atEnd });
  };
  const drawn = virtualList(lines.length, ROW_HEIGHT, scroll, onScroll, 'Log lines', index => {
    const row = lines[index];
    const tone = row.level === 'ERROR' ? 'rb-bad' : row.level === 'WARNING' ? 'rb-warn' : row.source === 'stderr' ? 'rb-err' : undefined;
    return h(
      'div',
      { class: 'rb-row rb-log', role: 'row', key: row.key, 'aria-rowindex': index + 1, title: `${row.name} pid ${row.pid} on ${row.node_id}` },
      h('span', { role: 'cell', class: 'rb-dim rb-cut' }, `${row.name || 'worker'} ${row.pid}`),
      h('span', { role: 'cell', class: `rb-cut ${tone ?? ''}` }, row.line),
      h('span', { role: 'cell' }, cellLink(context, row.cell))
    );
  });
  // Drawn after every update: at the end, as long as it follows.
  drawn.attrs = { ...drawn.attrs, 'data-follow': ui.follows ? 'end' : undefined };
  return drawn;
}
