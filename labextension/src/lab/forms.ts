/** Bodies of dialogs: fields and what they hold. Labels belong to their fields; an empty number is "as the machine has". */
import { Dialog } from '@jupyterlab/apputils';
import { KernelSpec } from '@jupyterlab/services';
import { Widget } from '@lumino/widgets';

export interface IStart {
  kernelspec: string;
  name: string;
  num_cpus: number | null;
  num_gpus: number | null;
  /** Seconds without work after which it ends; 0: never. */
  idle_timeout_s: number;
}

/** Start: in whose environment, under what name, with how much. */
export class StartForm extends Widget implements Dialog.IBodyWidget<IStart> {
  private readonly _spec = document.createElement('select');
  private readonly _name = field('text');
  private readonly _cpus = field('number');
  private readonly _gpus = field('number');
  private readonly _idle = field('number');

  constructor(specs: KernelSpec.ISpecModels | null) {
    super();
    this.addClass('raybook-form');
    for (const spec of Object.values(specs?.kernelspecs ?? {})) {
      if (spec !== undefined && spec.language.toLowerCase() === 'python') {
        const option = document.createElement('option');
        option.value = spec.name;
        option.textContent = spec.display_name;
        option.selected = spec.name === specs?.default;
        this._spec.append(option);
      }
    }
    this._spec.name = 'kernelspec';
    this._name.name = 'name';
    this._name.placeholder = 'chosen for you';
    for (const [input, name] of [[this._cpus, 'num_cpus'], [this._gpus, 'num_gpus']] as const) {
      input.name = name;
      input.min = '0';
      input.placeholder = 'all';
    }
    this._idle.name = 'idle_minutes';
    this._idle.min = '0';
    this._idle.placeholder = 'stay';
    this.node.append(
      labelled('Environment of', this._spec),
      labelled('Name', this._name),
      labelled('CPUs', this._cpus),
      labelled('GPUs', this._gpus),
      labelled('End when idle, min', this._idle)
    );
  }

  getValue(): IStart {
    return {
      kernelspec: this._spec.value,
      name: this._name.value.trim(),
      num_cpus: numberIn(this._cpus),
      num_gpus: numberIn(this._gpus),
      idle_timeout_s: 60 * (numberIn(this._idle) ?? 0)
    };
  }
}

/** One whole number. */
export class NumberForm extends Widget implements Dialog.IBodyWidget<number | null> {
  private readonly _input = field('number');

  constructor(label: string, value: number, min: number, max: number) {
    super();
    this.addClass('raybook-form');
    this._input.value = String(value);
    this._input.min = String(min);
    this._input.max = String(max);
    this.node.append(labelled(label, this._input));
  }

  getValue(): number | null {
    return numberIn(this._input);
  }
}

function field(type: string): HTMLInputElement {
  const input = document.createElement('input');
  input.type = type;
  input.className = 'jp-mod-styled';
  return input;
}

function labelled(text: string, input: HTMLElement): HTMLLabelElement {
  const label = document.createElement('label');
  const words = document.createElement('span');
  words.textContent = text;
  input.classList.add('jp-mod-styled');
  label.append(words, input);
  return label;
}

function numberIn(input: HTMLInputElement): number | null {
  const value = input.valueAsNumber;
  return Number.isFinite(value) ? value : null;
}
