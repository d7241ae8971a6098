/**
 * The object store in a line: how full it is, and how many objects lie in it.
 */
import { VNode } from '../dom.js';
import { bytesPairText, countText } from '../format.js';
import { IPanel } from '../panel.js';
import { bar, head, span } from '../parts.js';
import { PanelState } from '../state.js';

export const storeLine: IPanel<object> = {
  title: 'Object store',
  begin: () => ({}),
  draw: ({ state }) => (state.values.store_total.objects || state.values.store_total.used_bytes ? [summary(state)] : [])
};

export function storeBar(used: number, capacity: number): VNode {
  const share = capacity > 0 ? used / capacity : 0;
  return bar([{ tone: share > 0.9 ? 'bad' : share > 0.75 ? 'warn' : 'run', share, word: 'used' }], `${bytesPairText(used, capacity, ' of ')} used`);
}

export function summary(state: PanelState): VNode {
  const { store_total: total } = state.values;
  return head(
    'Objects',
    storeBar(total.used_bytes, total.capacity_bytes),
    span(bytesPairText(total.used_bytes, total.capacity_bytes, ' of '), 'rb-small'),
    total.objects ? span(`in ${countText(total.objects)} ${total.objects === 1 ? 'object' : 'objects'}`, 'rb-dim rb-small') : null
  );
}

