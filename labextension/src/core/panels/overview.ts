/**
 * Overview: the cluster's line, and below it everything else in a few rows.
 */
import { h } from '../dom.js';
import { IContext, IPanel } from '../panel.js';
import { SECTIONS } from '../sections/index.js';

type IUi = Record<string, object>;

export const overview: IPanel<IUi> = {
  title: 'Overview',
  begin: options => Object.fromEntries(Object.entries(SECTIONS).map(([name, section]) => [name, section.begin(options)])),
  draw: context =>
    Object.entries(SECTIONS).map(([name, section]) => {
      const inner: IContext<object> = {
        ...context,
        ui: context.ui[name],
        options: { ...context.options, compact: true },
        set: change => context.set({ [name]: { ...context.ui[name], ...change } })
      };
      const drawn = section.draw(inner).filter(Boolean);
      return drawn.length > 0 && h('div', { key: name, class: name === 'cluster' ? undefined : 'rb-section' }, drawn);
    })
};
