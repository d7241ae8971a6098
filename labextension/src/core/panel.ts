/**
 * What a panel is: a title, what it subscribes to, and a pure function from state to a tree. Everything a person has set in
 * it (a filter, a sort, a selection) is its `ui`, a plain object that drawing reads and handlers replace.
 */
import { Child } from './dom.js';
import { CommandName, ICommands, IFilter } from './source.js';
import { PanelState } from './state.js';

export interface IOptions {
  /** The one sweep that this view is about. */
  runId?: string;
  /** Under a cell: sums and a few rows, no filters. */
  compact?: boolean;
  /** The notebook cell that this view stands under, "In[3]", and the kernel that ran it. */
  cellId?: string;
  kernelId?: string;
}

export interface IContext<U> {
  state: PanelState;
  commands: ICommands;
  options: IOptions;
  ui: U;
  /** Change what a person has set and draw again. */
  set(change: Partial<U>): void;
  /** Give a command and say under the panel what came of it. */
  give(name: CommandName, body: Record<string, unknown>): void;
  /** Whether this command is on its way. */
  isGiven(name: CommandName, body: Record<string, unknown>): boolean;
  /** Say something under the panel. */
  say(text: string): void;
}

export interface IPanel<U = object> {
  title: string;
  begin(options: IOptions): U;
  /** What to ask the sender for; asked again after every change of `ui`. */
  filter?(ui: U): IFilter;
  /** [] for nothing to show. */
  draw(context: IContext<U>): Child[];
}
