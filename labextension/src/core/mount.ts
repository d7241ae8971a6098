/**
 * Mounting: one or more panels in an element of a page, from a source, until the returned function is called.
 *
 * Decides when to draw: at most once a frame, only after something changed, never in a page that is not seen. A view is
 * drawn from state alone, so an element may be taken out of the page and put back (JupyterLab does, far from view).
 */
import { Child, h, patch, VNode } from './dom.js';
import { IContext, IOptions, IPanel } from './panel.js';
import { PanelName } from './schema.js';
import { SECTIONS } from './sections/index.js';
import { CommandName, ICommands, IFailure, IFilter, ISource, ISubscription } from './source.js';
import { PanelState } from './state.js';
import { wearStyle } from './style.js';

/** Typing in a filter asks the sender again when it pauses. */
const REFILTER_MS = 300;
const SAID_MS = 8_000;

interface ISection {
  name: string;
  panel: IPanel<object>;
  ui: object;
}

/** Sections in a few rows each, stacked in a card that stands under a cell. Names that are none are left out. */
export function mountCard(
  names: string[],
  element: HTMLElement,
  source: ISource,
  commands: ICommands,
  options: IOptions = {}
): () => void {
  const sections = names.flatMap(name => (name in SECTIONS ? [{ name, panel: SECTIONS[name] }] : []));
  return new View(element, sections, 'overview', source, commands, { ...options, compact: true }).dispose;
}

export class View {
  private _state = new PanelState();
  private readonly _sections: ISection[];
  private readonly _subscription: ISubscription;
  private readonly _stopStatus: () => void;
  private readonly _given = new Set<string>();
  private _failure: IFailure | null = null;
  private _said = '';
  private _saidTimer: ReturnType<typeof setTimeout> | undefined;
  private _filterTimer: ReturnType<typeof setTimeout> | undefined;
  private _isScheduled = false;
  private _isDisposed = false;
  private _filterText: string;

  constructor(
    private readonly _element: HTMLElement,
    sections: { name: string; panel: IPanel<object> }[],
    subscribed: PanelName,
    private readonly _source: ISource,
    private readonly _commands: ICommands,
    private readonly _options: IOptions
  ) {
    this._sections = sections.map(section => ({ ...section, ui: section.panel.begin(_options) }));
    wearStyle(_element);
    _element.classList.add('raybook-view');
    _element.classList.toggle('raybook-card', _options.compact === true);
    const filter = this._filter();
    this._filterText = JSON.stringify(filter);
    this._stopStatus = _source.onStatus(() => this._schedule());
    this._subscription = _source.subscribe(
      subscribed,
      filter,
      state => {
        this._state = state;
        this._failure = null;
        this._schedule();
      },
      failure => {
        this._failure = failure;
        this._schedule();
      }
    );
    this._draw();
  }

  readonly dispose = (): void => {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    clearTimeout(this._saidTimer);
    clearTimeout(this._filterTimer);
    this._stopStatus();
    this._subscription.dispose();
    patch(this._element, []);
  };

  private _filter(): IFilter {
    const filter: IFilter = this._options.runId ? { experiment_id: this._options.runId } : {};
    const asks = this._options.compact ? undefined : this._sections[0].panel.filter;
    return { ...filter, ...asks?.(this._sections[0].ui) };
  }

  private _schedule(): void {
    if (this._isScheduled || this._isDisposed) {
      return;
    }
    this._isScheduled = true;
    const draw = (): void => {
      this._isScheduled = false;
      this._draw();
    };
    // Frames stop in a hidden page, and so does drawing.
    if (typeof requestAnimationFrame === 'function') {
      requestAnimationFrame(draw);
    } else {
      setTimeout(draw, 0);
    }
  }

  private _draw(): void {
    if (this._isDisposed) {
      return;
    }
    const drawn: VNode[] = [];
    for (const section of this._sections) {
      const content = this._state.isEmpty ? [] : this._content(section);
      if (content.some(Boolean)) {
        drawn.push(h('div', { key: section.name, class: 'raybook-panel', 'data-panel': section.name }, content));
      }
    }
    patch(this._element, [...drawn, this._footer(drawn.length === 0)]);
    this._followEnds();
  }

  private _content(section: ISection): Child[] {
    return section.panel.draw(this._context(section));
  }

  private _context(section: ISection): IContext<object> {
    return {
      state: this._state,
      commands: this._commands,
      options: this._options,
      ui: section.ui,
      set: change => {
        section.ui = { ...section.ui, ...change };
        this._refilter();
        this._schedule();
      },
      give: (name, body) => void this._give(name, body),
      isGiven: (name, body) => this._given.has(commandKey(name, body)),
      say: text => this._say(text)
    };
  }

  private async _give(name: CommandName, body: Record<string, unknown>): Promise<void> {
    const key = commandKey(name, body);
    this._given.add(key);
    this._schedule();
    const { said, next, waits } = await this._commands.run(name, body);
    if (!waits) {
      this._given.delete(key);
    }
    this._say([said, next].filter(Boolean).join(' '));
  }

  private _say(text: string): void {
    this._said = text;
    clearTimeout(this._saidTimer);
    this._saidTimer = setTimeout(() => {
      this._said = '';
      this._schedule();
    }, SAID_MS);
    this._schedule();
  }

  private _refilter(): void {
    clearTimeout(this._filterTimer);
    this._filterTimer = setTimeout(() => {
      const filter = this._filter();
      const text = JSON.stringify(filter);
      if (text !== this._filterText && !this._isDisposed) {
        this._filterText = text;
        this._subscription.refilter(filter);
      }
    }, REFILTER_MS);
  }

  /** What was said last, and how the connection is. Always in the page: a screen reader only hears changes of what is there. */
  private _footer(isBare: boolean): VNode {
    const words: Child[] = [];
    if (this._failure !== null) {
      words.push(h('span', { class: 'rb-warn' }, [this._failure.what, this._failure.next].filter(Boolean).join(' ')));
    } else if (this._source.status === 'waiting') {
      words.push(h('span', { class: 'rb-dim' }, isBare ? 'Connecting…' : 'Not connected; trying again. What is shown may be old.'));
    } else if (isBare && this._state.isEmpty) {
      words.push(h('span', { class: 'rb-dim' }, 'Waiting for the cluster…'));
    }
    if (this._said) {
      words.push(h('span', null, this._said));
    }
    return h('div', { class: words.length > 0 ? 'rb-foot' : 'rb-foot rb-none', role: 'status', 'aria-live': 'polite', key: ' foot' }, words);
  }

  /** Lists that follow their end are scrolled there; the height they really have is learnt at the first drawing. */
  private _followEnds(): void {
    for (const list of this._element.querySelectorAll<HTMLElement>('.rb-list[data-follow="end"]')) {
      if (list.scrollHeight - list.clientHeight - list.scrollTop > 1) {
        list.scrollTop = list.scrollHeight;
      }
    }
  }
}

function commandKey(name: string, body: Record<string, unknown>): string {
  return `${name} ${JSON.stringify(body)}`;
}

