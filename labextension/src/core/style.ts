/**
 * The panels' style sheet. Every colour is a JupyterLab variable, so that any theme, light or dark, fits; the names after
 * the comma are for pages without JupyterLab. The same look as widgets/raybook_widgets/style.py gives saved panels.
 */

const STYLE = `
.raybook-view{
--rb-ink:var(--jp-ui-font-color1,CanvasText);--rb-dim:var(--jp-ui-font-color2,GrayText);--rb-line:var(--jp-border-color2,GrayText);
--rb-track:var(--jp-layout-color2,ButtonFace);--rb-good:var(--jp-success-color1,seagreen);--rb-run:var(--jp-brand-color1,royalblue);
--rb-bad:var(--jp-error-color1,firebrick);--rb-warn:var(--jp-warn-color1,darkorange);
box-sizing:border-box;color:var(--rb-ink);background:var(--jp-layout-color1,Canvas);font-family:var(--jp-ui-font-family,system-ui,sans-serif);
font-size:var(--jp-ui-font-size1,13px);line-height:1.45;font-variant-numeric:tabular-nums}
.raybook-view *{box-sizing:border-box}
.raybook-view.raybook-card{border:1px solid var(--rb-line);border-radius:6px;max-width:922px;overflow:hidden;margin:2px 0}
.raybook-view .raybook-panel{padding:7px 14px 9px;max-width:none}
.raybook-card .raybook-panel+.raybook-panel,.raybook-view .rb-section{border-top:1px solid var(--rb-line)}
.raybook-view .rb-section{padding:7px 0 4px;margin-top:6px}
.raybook-view .rb-head{display:flex;align-items:baseline;gap:.7em;margin:0 0 4px;flex-wrap:wrap}
.raybook-view .rb-head>.rb-bar{width:120px;align-self:center}
.raybook-view .rb-title{font-weight:600}
.raybook-view .rb-dim{color:var(--rb-dim)}.raybook-view .rb-small{font-size:.92em}
.raybook-view .rb-push{margin-left:auto}.raybook-view .rb-pair{display:inline-flex;gap:4px}
.raybook-view .rb-code{font-family:var(--jp-code-font-family,monospace);font-size:.95em}
.raybook-view .rb-cut{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;min-width:0}
.raybook-view .rb-good{color:var(--rb-good)}.raybook-view .rb-run{color:var(--rb-run)}
.raybook-view .rb-bad{color:var(--rb-bad)}.raybook-view .rb-warn{color:var(--rb-warn)}
.raybook-view .rb-bar{display:flex;height:8px;border-radius:4px;overflow:hidden;background:var(--rb-track);min-width:60px}
.raybook-view .rb-bar i{display:block;height:100%;flex:none}
.raybook-view .rb-fill-good{background:var(--rb-good)}.raybook-view .rb-fill-run{background:var(--rb-run)}
.raybook-view .rb-fill-bad{background:var(--rb-bad)}.raybook-view .rb-fill-warn{background:var(--rb-warn)}
.raybook-view .rb-tasks{display:grid;grid-template-columns:minmax(7em,14em) minmax(80px,1fr) minmax(13em,auto);column-gap:1.1em;row-gap:3px;align-items:center}
.raybook-view .rb-facts{display:flex;gap:.75em;justify-content:flex-end;white-space:nowrap;font-size:.92em}
.raybook-view .rb-meters{display:flex;gap:1.2em;flex-wrap:wrap;align-items:center}
.raybook-view .rb-meter{display:flex;gap:.5em;align-items:center;white-space:nowrap}
.raybook-view .rb-meter .rb-bar{width:44px;height:6px}
.raybook-view .rb-chip{display:inline-flex;align-items:center;gap:.4em;white-space:nowrap;font-size:.92em}
.raybook-view .rb-chip::before{content:"";width:.55em;height:.55em;border-radius:50%;background:currentColor;flex:none}
.raybook-view .rb-chip b{font-weight:400;color:var(--rb-ink)}
.raybook-view .rb-badge{border:1px solid var(--rb-warn);color:var(--rb-warn);border-radius:8px;padding:0 6px;margin-left:6px;font-size:.85em}
.raybook-view .rb-scroll{overflow-x:auto}
.raybook-view.raybook-view table.rb-table{border-collapse:collapse;width:100%;margin:0;font-size:1em;border:0;color:inherit;table-layout:auto}
.raybook-view.raybook-view .rb-table th{font-weight:400;color:var(--rb-dim);text-align:left;padding:1px 1.1em 2px 0;border:0;font-size:.92em;white-space:nowrap;background:none}
.raybook-view.raybook-view .rb-table td{padding:2px 1.1em 2px 0;border:0;text-align:left;white-space:nowrap;vertical-align:middle;background:none;max-width:22em;line-height:1.45}
.raybook-view.raybook-view .rb-table tr{background:none!important}
.raybook-view.raybook-view .rb-table th:last-child,.raybook-view.raybook-view .rb-table td:last-child{padding-right:0}
.raybook-view.raybook-view .rb-table th.rb-num,.raybook-view.raybook-view .rb-table td.rb-num,.raybook-view .rb-row .rb-num{text-align:right}
.raybook-view.raybook-view .rb-table .rb-wide{width:99%;max-width:0}
.raybook-view .rb-best td:first-child,.raybook-view .rb-best td.rb-num{font-weight:600}
.raybook-view .rb-star{color:var(--rb-warn);width:1.2em;display:inline-block}
.raybook-view.raybook-view svg.rb-spark{display:block;overflow:visible;max-width:none;width:104px;height:18px}
.raybook-view .rb-spark polyline{fill:none;stroke:currentColor;stroke-width:1.4;stroke-linejoin:round;stroke-linecap:round}
.raybook-view .rb-spark circle{fill:currentColor}
.raybook-view .rb-progress{margin:2px 0 5px}
.raybook-view .rb-tools{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:6px 0}
.raybook-view .rb-field{background:var(--jp-input-background,Field);color:var(--rb-ink);border:1px solid var(--rb-line);border-radius:3px;height:24px;padding:0 6px;font:inherit;min-width:0}
.raybook-view .rb-button{background:transparent;border:1px solid var(--rb-line);border-radius:4px;color:var(--rb-ink);font:inherit;font-size:.92em;height:22px;line-height:20px;padding:0 8px;cursor:pointer;white-space:nowrap}
.raybook-view .rb-button:hover:not(:disabled),.raybook-view .rb-button[aria-pressed=true]{background:var(--rb-track)}
.raybook-view .rb-button:disabled{color:var(--rb-dim);cursor:default}
.raybook-view .rb-acts .rb-button{margin-left:4px;height:19px;line-height:17px;padding:0 6px}
.raybook-view .rb-sort,.raybook-view .rb-link{background:none;border:0;padding:0;margin:0;font:inherit;color:inherit;cursor:pointer;text-align:inherit}
.raybook-view .rb-link{color:var(--jp-content-link-color,LinkText);font-size:.92em}
.raybook-view .rb-link:hover,.raybook-view .rb-sort:hover{text-decoration:underline}
.raybook-view button:focus-visible,.raybook-view .rb-field:focus-visible,.raybook-view .rb-list:focus-visible{outline:2px solid var(--rb-run);outline-offset:1px}
.raybook-view .rb-form{display:flex;flex-wrap:wrap;gap:8px;align-items:end;padding:6px 8px;margin:4px 0;border:1px solid var(--rb-line);border-radius:4px}
.raybook-view .rb-form label{display:flex;flex-direction:column}.raybook-view .rb-form .rb-field{width:110px}
.raybook-view .rb-foot{padding:3px 14px 6px;font-size:.92em;display:flex;gap:1em}.raybook-view .rb-none{padding:0;height:0;overflow:hidden}
@media (prefers-reduced-motion:no-preference){.raybook-view .rb-bar i{transition:width .2s linear}}
`;

/** What only panes need. */
export const PANE_STYLE = `
.raybook-view .rb-badge.rb-quiet{border-color:var(--rb-line);color:var(--rb-dim)}
.raybook-view input.rb-field[type=search]{width:220px}.raybook-view .rb-narrow{width:90px}
.raybook-view .rb-list{height:min(60vh,460px);overflow:auto;border:1px solid var(--rb-line);border-radius:4px;overflow-anchor:none}
.raybook-view .rb-row{display:grid;column-gap:1em;align-items:center;padding:0 8px;white-space:nowrap}
.raybook-view .rb-task{height:22px;grid-template-columns:minmax(8em,2fr) 8em 6em 6em minmax(4em,3fr) minmax(0,8em)}
.raybook-view .rb-task .rb-button{height:18px;line-height:16px}
.raybook-view .rb-log{height:18px;line-height:18px;grid-template-columns:12em minmax(0,1fr) auto;font-family:var(--jp-code-font-family,monospace);font-size:.92em}
.raybook-view .rb-log .rb-cut{white-space:pre}
.raybook-view .rb-row:hover{background:var(--rb-track)}
.raybook-view .rb-err{color:var(--rb-dim)}
.raybook-view .rb-timeline{display:grid;grid-template-columns:minmax(0,11em) 1fr;column-gap:8px}
.raybook-view .rb-lanes{line-height:14px;font-size:10px}
.raybook-view .rb-chart svg{display:block;width:100%;background:var(--rb-track);border-radius:3px}
.raybook-view .rb-box-good{fill:var(--rb-good)}.raybook-view .rb-box-run{fill:var(--rb-run)}.raybook-view .rb-box-bad{fill:var(--rb-bad)}.raybook-view .rb-box-warn{fill:var(--rb-warn)}
.raybook-view .rb-axis{display:flex;justify-content:space-between}
.raybook-view .rb-treemap{position:relative;width:100%;aspect-ratio:5/2;max-height:300px;margin:6px 0;overflow:hidden}
.raybook-view .rb-tile{position:absolute;display:flex;flex-direction:column;align-items:flex-start;overflow:hidden;padding:3px 5px;border:1px solid var(--jp-layout-color1,Canvas);border-radius:3px;background:var(--jp-brand-color3,var(--rb-track));color:var(--rb-ink);font:inherit;font-size:.92em;text-align:left;cursor:pointer}
.raybook-view .rb-tile .rb-cut{max-width:100%}.raybook-view .rb-tile .rb-dim{color:inherit}
.raybook-view .rb-tile[aria-pressed=true]{outline:2px solid var(--rb-run);outline-offset:-2px}
.raybook-view .rb-node{border-top:1px solid var(--rb-line);padding:6px 0}
.raybook-view .rb-gpus{padding-left:1em}
.raybook-view .rb-gpu{display:grid;grid-template-columns:6em minmax(60px,1fr) 5em minmax(60px,1fr) 9em;gap:8px;align-items:center}
.raybook-view .rb-gpu .rb-holders{grid-column:span 2}
.raybook-view .rb-holder{margin-right:1em;white-space:nowrap}
.raybook-view .rb-parallel svg{display:block;width:100%;max-width:900px;height:auto}
.raybook-view .rb-parallel polyline{fill:none;stroke-width:1.2;vector-effect:non-scaling-stroke}
.raybook-view .rb-line{stroke:var(--rb-run);opacity:.45}.raybook-view .rb-line-out{stroke:var(--rb-line);opacity:.4}
.raybook-view .rb-line-best{stroke:var(--rb-warn);stroke-width:2!important}
.raybook-view .rb-parallel text{fill:var(--rb-ink);font-size:10px}.raybook-view .rb-parallel .rb-tick{fill:var(--rb-dim);font-size:9px}
.raybook-view .rb-axis-line{stroke:var(--rb-line)}.raybook-view .rb-axis-hit{fill:transparent;cursor:ns-resize;touch-action:none}
.raybook-view .rb-brush{fill:var(--rb-run);opacity:.35}
`;

/** Put the sheet into the document (or the shadow tree) that the element is in, once. */
export function wearStyle(element: HTMLElement, style = STYLE, id = 'raybook-style'): void {
  const root = element.getRootNode();
  const place: ParentNode & Node = root.nodeType === 11 ? (root as ShadowRoot) : element.ownerDocument.head;
  if (place.querySelector(`#${id}`) === null) {
    const sheet = element.ownerDocument.createElement('style');
    sheet.id = id;
    sheet.textContent = style;
    place.appendChild(sheet);
  }
}
