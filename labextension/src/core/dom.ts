/**
 * A small virtual DOM: panels draw themselves as trees from state, `patch` changes only what differs. So scroll, focus and
 * selection survive an update, and text is escaped by construction: there is no way from a string to markup here.
 * Invariants: nodes with a key are moved, not made again; an attribute that was taken away is taken away in the page.
 */

type Handler = (event: never) => void;
export type Value = string | number | boolean | null | undefined | Handler;
export type Child = VNode | string | null | false;

export interface VNode {
  tag: string;
  attrs: Record<string, Value>;
  children: (VNode | string)[];
}

const SVG = 'http://www.w3.org/2000/svg';
const NONE: Record<string, Value> = {};

/** A node. `class`, `style`, `key`, `value`, aria and data attributes as in HTML; functions are handlers (`onclick`). */
export function h(tag: string, attrs?: Record<string, Value> | null, ...children: (Child | Child[])[]): VNode {
  const flat: (VNode | string)[] = [];
  for (const child of children.flat()) {
    if (child !== null && child !== false && child !== '') {
      flat.push(child);
    }
  }
  return { tag, attrs: attrs ?? NONE, children: flat };
}

interface IDrawn extends Element {
  __rb?: VNode;
}

function make(vnode: VNode | string, parent: Element): Node {
  const owner = parent.ownerDocument;
  if (typeof vnode === 'string') {
    return owner.createTextNode(vnode);
  }
  const isSvg = vnode.tag === 'svg' || (parent.namespaceURI === SVG && parent.tagName.toLowerCase() !== 'foreignobject');
  const element = (isSvg ? owner.createElementNS(SVG, vnode.tag) : owner.createElement(vnode.tag)) as IDrawn;
  setAttributes(element, NONE, vnode.attrs);
  patch(element, vnode.children);
  element.__rb = vnode;
  return element;
}

function setAttributes(element: Element, before: Record<string, Value>, after: Record<string, Value>): void {
  for (const name in before) {
    if (!(name in after)) {
      setAttribute(element, name, null);
    }
  }
  for (const name in after) {
    // What a person typed in a field is compared with the field, not with what was drawn last.
    if (before[name] !== after[name] || name === 'value' || name === 'checked') {
      setAttribute(element, name, after[name]);
    }
  }
}

function setAttribute(element: Element, name: string, value: Value): void {
  if (name === 'key') {
    return;
  }
  if (name.startsWith('on')) {
    (element as unknown as Record<string, Value>)[name] = value ?? null;
  } else if (name === 'style') {
    // Through the object: a page's policy may forbid style attributes.
    (element as HTMLElement).style.cssText = String(value ?? '');
  } else if (name === 'value' || name === 'checked') {
    const field = element as unknown as Record<string, Value>;
    if (field[name] !== value) {
      field[name] = value ?? '';
    }
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? '' : String(value));
  }
}

function isSame(drawn: Node, vnode: VNode | string): boolean {
  if (typeof vnode === 'string') {
    return drawn.nodeType === 3;
  }
  const before = (drawn as IDrawn).__rb;
  return before !== undefined && before.tag === vnode.tag && before.attrs.key === vnode.attrs.key;
}

/** Make the children of `parent` these. Cost: O(nodes); the page is touched only where something differs. */
export function patch(parent: Element, wanted: (VNode | string)[]): void {
  const keyed = new Map<Value, Node>();
  for (let drawn = parent.firstChild; drawn !== null; drawn = drawn.nextSibling) {
    const key = (drawn as IDrawn).__rb?.attrs.key;
    if (key !== undefined) {
      keyed.set(key, drawn);
    }
  }
  let at: ChildNode | null = parent.firstChild;
  for (const vnode of wanted) {
    const key = typeof vnode === 'string' ? undefined : vnode.attrs.key;
    const found = key !== undefined ? keyed.get(key) : (at ?? undefined);
    if (found !== undefined && isSame(found, vnode)) {
      if (found === at) {
        at = at.nextSibling;
      } else {
        parent.insertBefore(found, at);
      }
      update(found, vnode);
    } else {
      const made = make(vnode, parent);
      if (key === undefined && at !== null && (at as IDrawn & ChildNode).__rb?.attrs.key === undefined) {
        const next: ChildNode | null = at.nextSibling;
        parent.replaceChild(made, at);
        at = next;
      } else {
        parent.insertBefore(made, at);
      }
    }
  }
  while (at !== null) {
    const next: ChildNode | null = at.nextSibling;
    parent.removeChild(at);
    at = next;
  }
}

function update(drawn: Node, vnode: VNode | string): void {
  if (typeof vnode === 'string') {
    if (drawn.nodeValue !== vnode) {
      drawn.nodeValue = vnode;
    }
    return;
  }
  const element = drawn as IDrawn;
  const before = element.__rb as VNode;
  if (before === vnode) {
    return;
  }
  setAttributes(element, before.attrs, vnode.attrs);
  patch(element, vnode.children);
  element.__rb = vnode;
}
