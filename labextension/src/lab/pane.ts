/**
 * A pane: one panel of one cluster, in the main area. It shows the cluster of the notebook that is looked at, or the one it
 * was opened for; it keeps the last state of a cluster that ended.
 */
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { mountPanel, PanelName, PANELS } from '../core/index.js';
import { Actions } from './actions';
import { clusterIcon } from './icon';
import { Notebooks } from './notebooks';
import { RaybookServer } from './server';
import { titleOf } from './words';

export class Pane extends Widget {
  private readonly _bar = document.createElement('label');
  private readonly _choice = document.createElement('select');
  private readonly _body = document.createElement('div');
  private _shown: string | null = null;
  private _unmount: (() => void) | null = null;
  private _text = '';

  /** cluster: the one it is about; "" follows the notebook that is looked at. */
  constructor(
    readonly panel: PanelName,
    public cluster: string,
    private readonly _server: RaybookServer,
    private readonly _notebooks: Notebooks,
    private readonly _actions: Actions
  ) {
    super();
    this.addClass('raybook-pane');
    this.title.icon = clusterIcon;
    this._bar.className = 'raybook-pane-bar';
    const words = document.createElement('span');
    words.textContent = 'Cluster';
    this._bar.append(words, this._choice);
    this._choice.addEventListener('change', () => {
      this.cluster = this._choice.value;
      this._follow();
    });
    this._body.className = 'raybook-pane-body';
    this.node.append(this._bar, this._body);
    _server.changed.connect(this._follow, this);
    _notebooks.changed.connect(this._follow, this);
    this._follow();
  }

  dispose(): void {
    this._unmount?.();
    this._unmount = null;
    super.dispose();
  }

  // A pane behind another tab costs nothing: it subscribes when it is seen.

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._follow();
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._leave();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._follow();
  }

  private _leave(): void {
    this._unmount?.();
    this._unmount = null;
    this._shown = null;
  }

  private _follow(): void {
    if (this.isDisposed) {
      return;
    }
    this._offer();
    const wanted = this.cluster || this._actions.clusterInView()?.cluster_id || null;
    const title = PANELS[this.panel].title;
    const record = wanted === null ? undefined : this._server.find(wanted);
    this.title.label = record ? `${title}: ${titleOf(record)}` : title;
    this.title.caption = this.title.label;
    if (wanted === this._shown && this._unmount !== null) {
      return;
    }
    if (wanted === null || !this.isVisible) {
      if (this._unmount === null) {
        this._body.textContent = this._server.state === 'here' ? 'This notebook has no cluster. The sidebar lists those that run.' : '';
      }
      // What ended stays on show until there is another.
      return;
    }
    if (record === undefined && this._server.state !== 'here') {
      return;
    }
    this._leave();
    this._body.textContent = '';
    this._shown = wanted;
    const commands = this._server.commands(wanted, {
      insertCell: code => void this._notebooks.insertCell(code),
      revealCell: cell => this._notebooks.revealCell(cell)
    });
    this._unmount = mountPanel(this.panel, this._body, this._server.source(wanted), commands);
  }

  /** The clusters to choose from; redrawn only when they change, so that an open list stays open. */
  private _offer(): void {
    const known = this._server.clusters.map(record => [record.cluster_id, titleOf(record)]);
    if (this.cluster !== '' && this._server.find(this.cluster) === undefined) {
      known.push([this.cluster, `${this.cluster.slice(0, 8)} (ended)`]);
    }
    const entries = [['', 'of the notebook you look at'], ...known];
    const text = JSON.stringify([entries, this.cluster]);
    if (text === this._text) {
      return;
    }
    this._text = text;
    this._choice.replaceChildren(
      ...entries.map(([value, words]) => {
        const option = document.createElement('option');
        option.value = value;
        option.textContent = words;
        return option;
      })
    );
    this._choice.value = this.cluster;
  }
}
