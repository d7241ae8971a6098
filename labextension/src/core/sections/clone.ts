/**
 * Clone: a form with a trial's parameters; what is sent back is the edited config, each value of the kind it had.
 */
import { h, VNode } from '../dom.js';
import { IContext } from '../panel.js';
import { button, span } from '../parts.js';
import { IExperimentRow, ITrialRow } from '../schema.js';

interface IUi {
  cloning: string;
  edited: Record<string, string>;
}

type Config = ITrialRow['config'];

/** The values as edited. A number that was typed as none of the kind names its parameter in `wrong`. */
export function editedConfig(config: Config, edited: Record<string, string>): { config: Config; wrong: string[] } {
  const result: Config = {};
  const wrong: string[] = [];
  for (const [name, value] of Object.entries(config)) {
    const text = edited[name];
    if (text === undefined) {
      result[name] = value;
    } else if (typeof value === 'number') {
      result[name] = Number(text);
      if (text.trim() === '' || !Number.isFinite(Number(text))) {
        wrong.push(name);
      }
    } else if (typeof value === 'boolean') {
      result[name] = /^(true|1|yes)$/i.test(text.trim());
    } else {
      result[name] = value === null && text === 'None' ? null : text;
    }
  }
  return { config: result, wrong };
}

export function cloneForm<U extends IUi>(context: IContext<U>, row: IExperimentRow, trial: ITrialRow): VNode {
  const { edited } = context.ui;
  const { config, wrong } = editedConfig(trial.config, edited);
  const change = (fields: Partial<IUi>): void => context.set(fields as Partial<U>);
  const send = (event: Event): void => {
    event.preventDefault();
    if (wrong.length > 0) {
      context.say(`${wrong.join(', ')} must be a number.`);
      return;
    }
    context.give('clone-trial', { run_id: row.experiment_id, trial_id: trial.trial_id, config });
    change({ cloning: '', edited: {} });
  };
  const fields = Object.entries(trial.config).map(([name, value]) =>
    h(
      'label',
      { key: name, class: 'rb-small' },
      span(name, 'rb-code'),
      h('input', {
        class: 'rb-field',
        'aria-label': name,
        'aria-invalid': wrong.includes(name) ? 'true' : undefined,
        value: edited[name] ?? (value === null ? 'None' : String(value)),
        oninput: (event: Event) => change({ edited: { ...edited, [name]: (event.target as HTMLInputElement).value } })
      })
    )
  );
  return h(
    'form',
    { class: 'rb-form', onsubmit: send, 'aria-label': `Clone trial ${trial.name || trial.trial_id}` },
    fields,
    h('button', { type: 'submit', class: 'rb-button', disabled: wrong.length > 0 }, 'Start clone'),
    button('Cancel', () => change({ cloning: '', edited: {} }), { 'aria-label': 'Close the form' })
  );
}
