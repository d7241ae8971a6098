/**
 * Long lists and the fields that filter them: of 10,000 rows only those in sight are in the page.
 */
import { h, VNode } from './dom.js';

export interface IScroll {
  top: number;
  height: number;
}

export const NO_SCROLL: IScroll = { top: 0, height: 360 };
const OVERSCAN = 6;

/**
 * A list of which only the rows in sight are in the page: 10,000 rows cost what 30 do. The scroller takes the keyboard's
 * focus, so arrows, Page Up and End work as anywhere.
 */
export function virtualList(
  count: number,
  rowHeight: number,
  scroll: IScroll,
  onScroll: (scroll: IScroll) => void,
  label: string,
  row: (index: number) => VNode
): VNode {
  const first = Math.max(0, Math.min(count - 1, Math.floor(scroll.top / rowHeight)) - OVERSCAN);
  const last = Math.min(count, Math.ceil((scroll.top + scroll.height) / rowHeight) + OVERSCAN);
  const rows: VNode[] = [];
  for (let index = first; index < last; index += 1) {
    rows.push(row(index));
  }
  const looked = (event: Event): void => {
    const element = event.currentTarget as HTMLElement;
    onScroll({ top: element.scrollTop, height: element.clientHeight || scroll.height });
  };
  return h(
    'div',
    { class: 'rb-list', tabindex: 0, role: 'table', 'aria-label': label, 'aria-rowcount': count, onscroll: looked },
    h('div', { style: `height:${first * rowHeight}px` }),
    h('div', { role: 'rowgroup' }, rows),
    h('div', { style: `height:${Math.max(0, count - last) * rowHeight}px` })
  );
}

/** A labelled search field and choices in one line above a panel's rows. */
export function searchField(label: string, value: string, on: (text: string) => void): VNode {
  return h('input', {
    type: 'search',
    class: 'rb-field',
    'aria-label': label,
    placeholder: label,
    value,
    oninput: (event: Event) => on((event.target as HTMLInputElement).value)
  });
}

export function choice(label: string, value: string, words: [string, string][], on: (value: string) => void): VNode {
  const options = words.map(([key, word]) => h('option', { value: key, selected: key === value }, word));
  const changed = (event: Event): void => on((event.target as HTMLSelectElement).value);
  return h('select', { class: 'rb-field', 'aria-label': label, onchange: changed }, options);
}
