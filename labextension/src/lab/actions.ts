/**
 * Actions: what sidebar, chip, menus and the command palette do. Asks before it ends anything that somebody else may use,
 * and says what came of every command.
 */
import { Dialog, showDialog, showErrorMessage } from '@jupyterlab/apputils';
import { KernelSpec } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';

import { CommandName, PanelName } from '../core/index.js';
import { IClusterRecord } from '../state/describe';
import { NumberForm, StartForm } from './forms';
import { Notebooks } from './notebooks';
import { RaybookServer } from './server';
import { connectCode, titleOf } from './words';

export class Actions {
  said = '';
  /** Set by the plugin: opens a pane, of this cluster or of the one in view. */
  openPane: (name: PanelName, record?: IClusterRecord) => void = () => undefined;
  private readonly _busy = new Set<string>();
  private readonly _changed = new Signal<this, void>(this);

  constructor(
    private readonly _server: RaybookServer,
    private readonly _notebooks: Notebooks,
    private readonly _specs: KernelSpec.IManager
  ) {}

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The cluster of the notebook that is looked at; the only one there is, when it has none. */
  clusterInView(): IClusterRecord | undefined {
    const own = this._server.ofKernel(this._notebooks.kernelId);
    return own ?? (this._server.clusters.length === 1 ? this._server.clusters[0] : undefined);
  }

  isBusy(record: IClusterRecord): boolean {
    return this._busy.has(record.cluster_id);
  }

  can(name: string): boolean {
    return this._server.commands('').can(name as CommandName);
  }

  async startCluster(): Promise<void> {
    await this._specs.ready;
    const form = new StartForm(this._specs.specs);
    const { button, value } = await showDialog({
      title: 'Start a cluster',
      body: form,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Start' })],
      focusNodeSelector: 'select'
    });
    if (!button.accept || value === null) {
      return;
    }
    this._say('Starting a cluster…');
    try {
      const { status, json } = await this._server.post('clusters', value);
      const answer = json as { cluster?: IClusterRecord; what?: string; message?: string } | null;
      if (answer?.cluster) {
        this._say(`${titleOf(answer.cluster)} runs.`);
        return;
      }
      this._say('');
      await showErrorMessage('The cluster was not started', answer?.what ?? answer?.message ?? `HTTP ${status}`);
    } catch (reason) {
      this._say(`The Jupyter server did not answer: ${String(reason)}`);
    }
  }

  async stop(record: IClusterRecord): Promise<void> {
    const title = titleOf(record);
    const owner = this._notebooks.pathOf(record.owner_kernel_id ?? null);
    const whose = owner ? ` It belongs to ${owner}.` : '';
    const { button } = await showDialog({
      title: `Stop ${title}?`,
      body: `Everything that runs on it ends, and what is in its memory is gone.${whose}`,
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Stop' })]
    });
    if (button.accept) {
      await this._run(record, 'stop', {}, `Stopping ${title}…`);
    }
  }

  async scale(record: IClusterRecord): Promise<void> {
    const form = new NumberForm('Nodes', 2, 1, 64);
    const { button, value } = await showDialog({
      title: `Scale ${titleOf(record)}`,
      body: form,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Scale' })],
      focusNodeSelector: 'input'
    });
    if (button.accept && value !== null) {
      await this._run(record, 'scale', { nodes: value }, `Scaling ${titleOf(record)} to ${value}…`);
    }
  }

  async persist(record: IClusterRecord): Promise<void> {
    await this._run(record, 'persist', {}, `Keeping ${titleOf(record)}…`);
  }

  async handOver(record: IClusterRecord, kernelId: string): Promise<void> {
    await this._run(record, 'hand-over' as CommandName, { kernel_id: kernelId }, `Handing over ${titleOf(record)}…`);
  }

  async insertConnect(record: IClusterRecord): Promise<void> {
    if (!(await this._notebooks.insertCell(connectCode(record)))) {
      this._say('Open a notebook first: the cell that connects goes there.');
    }
  }

  private async _run(record: IClusterRecord, name: CommandName, body: Record<string, unknown>, said: string): Promise<void> {
    this._busy.add(record.cluster_id);
    this._say(said);
    const answer = await this._server.commands(record.cluster_id).run(name, body);
    this._busy.delete(record.cluster_id);
    this._say([answer.said, answer.next].filter(Boolean).join(' '));
  }

  private _say(text: string): void {
    this.said = text;
    this._changed.emit();
  }
}
