/**
 * The sidebar: every cluster of this user, whoever started it, and what can be done with it; below, the panes of the
 * cluster that the notebook one looks at uses. Draws what the registry says and nothing else.
 */
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { h, patch, VNode } from '../core/dom.js';
import { PANEL_NAMES, PanelName, PANELS } from '../core/index.js';
import { IClusterRecord } from '../state/describe';
import { Actions } from './actions';
import { clusterIcon } from './icon';
import { Notebooks } from './notebooks';
import { RaybookServer } from './server';
import { factWords, lifeWords, titleOf, versionWarning } from './words';

const CLOCK_MS = 1_000;

export class Sidebar extends Widget {
  private _clock: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly _server: RaybookServer,
    private readonly _notebooks: Notebooks,
    private readonly _actions: Actions
  ) {
    super();
    this.id = 'raybook-sidebar';
    this.addClass('raybook-sidebar');
    this.title.icon = clusterIcon;
    this.title.caption = 'raybook clusters';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'raybook clusters');
    _server.changed.connect(this._draw, this);
    _notebooks.changed.connect(this._draw, this);
    _actions.changed.connect(this._draw, this);
    this._draw();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._server.refresh();
    // A countdown goes on between two answers of the server.
    this._clock = setInterval(() => this._draw(), CLOCK_MS);
  }

  protected onAfterHide(message: Message): void {
    clearInterval(this._clock);
    super.onAfterHide(message);
  }

  dispose(): void {
    clearInterval(this._clock);
    super.dispose();
  }

  private _draw(): void {
    if (!this.isDisposed) {
      patch(this.node, [this._head(), this._said(), this._list(), this._panes()].filter(each => each !== null));
    }
  }

  private _head(): VNode {
    return h(
      'div',
      { class: 'raybook-sidebar-head', key: 'head' },
      h('h2', null, 'Clusters'),
      button('New…', 'Start a cluster', () => void this._actions.startCluster(), { 'data-command': 'new' })
    );
  }

  /** Always in the page: a screen reader only hears changes of what is there. */
  private _said(): VNode {
    return h('div', { class: 'raybook-sidebar-said', role: 'status', 'aria-live': 'polite', key: 'said' }, this._actions.said);
  }

  private _list(): VNode {
    const { state, clusters } = this._server;
    const words = {
      asking: 'Asking the Jupyter server…',
      missing: 'The Jupyter server does not know raybook. Install raybook in the environment that runs JupyterLab, then restart it.',
      silent: 'The Jupyter server does not answer. Asking again.',
      here: 'No cluster runs. Start one here, with %ray_cluster start, or with raybook.init().'
    }[state];
    if (clusters.length === 0) {
      return h('p', { class: 'raybook-sidebar-note', key: 'none' }, words);
    }
    const late = state === 'silent' ? h('p', { class: 'raybook-sidebar-note' }, words) : null;
    return h('div', { key: 'clusters' }, late, h('ul', { role: 'list' }, [...clusters].reverse().map(each => this._cluster(each))));
  }

  private _cluster(record: IClusterRecord): VNode {
    const title = titleOf(record);
    const path = this._notebooks.pathOf(record.owner_kernel_id ?? null);
    const warning = versionWarning(record, this._server.clusters);
    const isCurrent = this._actions.clusterInView()?.cluster_id === record.cluster_id;
    return h(
      'li',
      { key: record.cluster_id, 'data-cluster': record.cluster_id, 'aria-label': title, 'data-current': isCurrent },
      h('div', { class: 'raybook-sidebar-title' }, h('span', { class: 'raybook-dot' }), h('b', { title: record.cluster_id }, title)),
      h('div', { class: 'raybook-sidebar-fact' }, factWords(record)),
      warning ? h('div', { class: 'raybook-sidebar-fact raybook-sidebar-warning' }, `This one ${warning}.`) : null,
      h('div', { class: 'raybook-sidebar-fact', 'data-fact': 'life' }, lifeWords(record, path, Date.now())),
      h('div', { class: 'raybook-sidebar-fact raybook-sidebar-path', title: record.env_prefix }, record.env_prefix),
      h(
        'div',
        { class: 'raybook-sidebar-buttons' },
        button('Open', `Show ${title}`, () => this._actions.openPane('overview', record), { 'data-command': 'open' }),
        button('Connect', `Insert a cell that connects to ${title}`, () => void this._actions.insertConnect(record), {
          'data-command': 'connect'
        }),
        button('Scale…', `More or fewer nodes for ${title}`, () => void this._actions.scale(record), {
          'data-command': 'scale',
          disabled: this._actions.isBusy(record)
        }),
        record.persist || !this._actions.can('persist')
          ? null
          : button('Keep', `Let ${title} outlive its notebook`, () => void this._actions.persist(record), {
              'data-command': 'persist',
              disabled: this._actions.isBusy(record)
            }),
        button('Stop', `Stop ${title}`, () => void this._actions.stop(record), {
          'data-command': 'stop',
          disabled: this._actions.isBusy(record)
        })
      )
    );
  }

  private _panes(): VNode {
    const cluster = this._actions.clusterInView();
    const about = cluster ? `of ${titleOf(cluster)}` : 'of the notebook you look at';
    return h(
      'div',
      { class: 'raybook-sidebar-panes', key: 'panes' },
      h('h2', null, 'Panes'),
      h('p', { class: 'raybook-sidebar-note' }, about),
      h(
        'div',
        { class: 'raybook-sidebar-buttons' },
        PANEL_NAMES.map((name: PanelName) =>
          button(PANELS[name].title, `Open the pane ${PANELS[name].title}`, () => this._actions.openPane(name), {
            'data-pane': name
          })
        )
      )
    );
  }
}

function button(label: string, title: string, onclick: () => void, more: Record<string, string | boolean> = {}): VNode {
  return h('button', { type: 'button', class: 'raybook-button', title, 'aria-label': title, onclick, ...more }, label);
}
