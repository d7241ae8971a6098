/**
 * Treemap: rectangles whose areas are sizes, as square as they can be. Pure geometry. Source: Bruls, Huizing, van Wijk,
 * "Squarified treemaps" (2000).
 */

export interface IRect {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The worst ratio of sides when these areas stand in one strip along a side of this length. */
function worst(areas: number[], side: number): number {
  const sum = areas.reduce((a, b) => a + b, 0);
  const [most, least] = [Math.max(...areas), Math.min(...areas)];
  return Math.max((side * side * most) / (sum * sum), (sum * sum) / (side * side * least));
}

/** A rectangle for each size (largest first, all above zero), filling width × height. Cost: O(n · strip). */
export function squarified(sizes: number[], width: number, height: number): IRect[] {
  const total = sizes.reduce((a, b) => a + b, 0);
  const scale = total > 0 ? (width * height) / total : 0;
  const rects: IRect[] = [];
  const free = { x: 0, y: 0, width, height };
  let strip: number[] = [];
  const flush = (): void => {
    const sum = strip.reduce((a, b) => a + b, 0);
    const lies = free.width < free.height;
    const side = lies ? free.width : free.height;
    const depth = side > 0 ? sum / side : 0;
    let along = 0;
    for (const area of strip) {
      const length = depth > 0 ? area / depth : 0;
      rects.push(
        lies
          ? { x: free.x + along, y: free.y, width: length, height: depth }
          : { x: free.x, y: free.y + along, width: depth, height: length }
      );
      along += length;
    }
    if (lies) {
      free.y += depth;
      free.height -= depth;
    } else {
      free.x += depth;
      free.width -= depth;
    }
    strip = [];
  };
  for (const size of sizes) {
    const area = size * scale;
    const side = Math.min(free.width, free.height);
    if (strip.length > 0 && worst([...strip, area], side) > worst(strip, side)) {
      flush();
    }
    strip.push(area);
  }
  if (strip.length > 0) {
    flush();
  }
  return rects;
}
