/**
 * Actors: the table of all that are known, by state and name.
 */

import { h } from '../dom.js';
import { choice, searchField } from '../lists.js';
import { IContext, IPanel } from '../panel.js';
import { note } from '../parts.js';
import { table, WORDS } from '../sections/actor_table.js';

interface IUi {
  text: string;
  state: string;
}

export const actors: IPanel<IUi> = {
  title: 'Actors',
  begin: () => ({ text: '', state: '' }),
  filter: ui => ({ text: ui.text, state: ui.state }),
  draw: context => {
    const { ui } = context;
    const lower = ui.text.toLowerCase();
    const chosen = context.state.rows('actors').filter(
      row =>
        (!ui.state || row.state === ui.state) &&
        (!lower || [row.class_name, row.name, row.actor_id].some(field => field.toLowerCase().includes(lower)))
    );
    const states: [string, string][] = [['', 'any state'], ...Object.entries(WORDS)];
    return [
      h(
        'div',
        { class: 'rb-tools' },
        searchField('Filter by class, name or id', ui.text, text => context.set({ text })),
        choice('State', ui.state, states, state => context.set({ state }))
      ),
      ...(chosen.length > 0 ? table(context as IContext<object>, chosen) : [note('No actor to show.')])
    ];
  }
};
