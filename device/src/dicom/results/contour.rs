//! Lines of equal heat, by marching squares.

use models::preprocess::SIDE;

use super::Heat;

/// How far a simplified line may stray, in pixels of the map.
const TOLERANCE: f32 = 0.2;

/// A closed line as `[x, y]` points in pixels of the scan, from its upper left corner; the last
/// point is the first.
pub type Loop = Vec<[f32; 2]>;

/// The lines around all regions of the scan at or above `level`.
///
/// `size` is the scan's in pixels, across and down. A region that reaches the scan's edge is
/// closed along it; a value that is no number counts as cold. The map has [`SIDE`] x [`SIDE`]
/// values.
pub fn loops(heat: &Heat, level: f32, size: [u32; 2]) -> Vec<Loop> {
    let grid = Grid::of(heat);
    let frame = &heat.frame;
    let extent = [size[0] as f32, size[1] as f32];
    let step = [extent[0] / frame.width.max(1) as f32, extent[1] / frame.height.max(1) as f32];
    // A grid point is the centre of a pixel of the map; the first is beyond the scan's edge.
    let on_scan = |point: [f32; 2]| {
        [0, 1].map(|axis| ((point[axis] - 0.5) * step[axis]).clamp(0.0, extent[axis]))
    };
    let closed = grid.loops(level).into_iter().map(|line| simplified(&line));
    closed.filter(|l| l.len() > 3).map(|l| l.into_iter().map(on_scan).collect()).collect()
}

/// The heat inside the frame with a cold border, so that every line closes.
struct Grid {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Grid {
    fn of(heat: &Heat) -> Self {
        let side = SIDE as usize;
        let frame = &heat.frame;
        let (left, top) = ((frame.left as usize).min(side), (frame.top as usize).min(side));
        let inner_width = (frame.width as usize).min(side - left);
        let inner_height = (frame.height as usize).min(side - top);
        let (width, height) = (inner_width + 2, inner_height + 2);
        let mut values = vec![0.0; width * height];
        for y in 0..inner_height {
            for x in 0..inner_width {
                let value = heat.values.get((top + y) * side + left + x).copied().unwrap_or(0.0);
                let value = if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
                values[(y + 1) * width + x + 1] = value;
            }
        }
        Self { width, height, values }
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    /// Each line goes from edge to edge of the cells between four points. An edge has a number:
    /// those to the right of point `i` have `2 * i`, those below it `2 * i + 1`.
    fn loops(&self, level: f32) -> Vec<Loop> {
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); 2 * self.values.len()];
        for y in 0..self.height - 1 {
            for x in 0..self.width - 1 {
                for [from, to] in self.segments(x, y, level) {
                    next[from].push(to);
                    next[to].push(from);
                }
            }
        }
        let mut loops = Vec::new();
        for start in 0..next.len() {
            let mut line = Vec::new();
            let mut here = start;
            while let Some(there) = next[here].pop() {
                line.push(self.crossing(here, level));
                next[there].retain(|&back| back != here);
                here = there;
            }
            if line.len() > 2 {
                line.push(line[0]);
                loops.push(line);
            }
        }
        loops
    }

    /// The pieces of line inside the cell whose upper left point is `x`, `y`.
    fn segments(&self, x: usize, y: usize, level: f32) -> Vec<[usize; 2]> {
        let corner = y * self.width + x;
        let (top, left) = (2 * corner, 2 * corner + 1);
        let (right, bottom) = (2 * (corner + 1) + 1, 2 * (corner + self.width));
        let corners = [self.at(x, y), self.at(x + 1, y), self.at(x + 1, y + 1), self.at(x, y + 1)];
        let hot = corners.map(|value| value >= level);
        let mean_hot = corners.iter().sum::<f32>() / 4.0 >= level;
        match hot {
            [a, b, c, d] if a == b && b == c && c == d => vec![],
            [a, b, c, d] if a == c && b == d => {
                // A saddle: the middle says which corners hang together.
                if a == mean_hot {
                    vec![[top, right], [bottom, left]]
                } else {
                    vec![[left, top], [right, bottom]]
                }
            }
            [a, b, c, d] => {
                let crossed = [(a != b, top), (b != c, right), (c != d, bottom), (d != a, left)];
                let edges: Vec<usize> = crossed.into_iter().filter(|e| e.0).map(|e| e.1).collect();
                vec![[edges[0], edges[1]]]
            }
        }
    }

    /// Where the level lies on an edge, in grid points.
    fn crossing(&self, edge: usize, level: f32) -> [f32; 2] {
        let (point, down) = (edge / 2, edge % 2 == 1);
        let (x, y) = (point % self.width, point / self.width);
        let here = self.at(x, y);
        let there = if down { self.at(x, y + 1) } else { self.at(x + 1, y) };
        let share = ((level - here) / (there - here)).clamp(0.0, 1.0);
        if down { [x as f32, y as f32 + share] } else { [x as f32 + share, y as f32] }
    }
}

/// A closed line with fewer points, none of the others further than the tolerance
/// (Ramer-Douglas-Peucker on both halves between the first point and the one farthest from it).
fn simplified(line: &[[f32; 2]]) -> Loop {
    let away = |point: &[f32; 2]| (point[0] - line[0][0]).hypot(point[1] - line[0][1]);
    let last = line.len() - 1;
    let far = (1..last).max_by(|&a, &b| away(&line[a]).total_cmp(&away(&line[b]))).unwrap_or(0);
    let mut kept = vec![false; line.len()];
    for place in [0, far, last] {
        kept[place] = true;
    }
    let mut spans = vec![[0, far], [far, last]];
    while let Some([from, to]) = spans.pop() {
        let off = |&place: &usize| distance(line[place], line[from], line[to]);
        let worst = (from + 1..to).max_by(|a, b| off(a).total_cmp(&off(b)));
        if let Some(worst) = worst.filter(|place| off(place) > TOLERANCE) {
            kept[worst] = true;
            spans.extend([[from, worst], [worst, to]]);
        }
    }
    line.iter().zip(kept).filter(|(_, kept)| *kept).map(|(&point, _)| point).collect()
}

/// From a point to a line through two others, or to them where they are one.
fn distance(point: [f32; 2], from: [f32; 2], to: [f32; 2]) -> f32 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let off = [point[0] - from[0], point[1] - from[1]];
    let length = along[0].hypot(along[1]);
    if length == 0.0 {
        off[0].hypot(off[1])
    } else {
        (along[0] * off[1] - along[1] * off[0]).abs() / length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::preprocess::Letterbox;

    const WHOLE: Letterbox = Letterbox { left: 0, top: 0, width: SIDE, height: SIDE };

    fn heat(frame: Letterbox, at: impl Fn(f32, f32) -> f32) -> Heat {
        let centre = |i: u32| i as f32 + 0.5;
        let values = (0..SIDE * SIDE).map(|i| at(centre(i % SIDE), centre(i / SIDE)));
        Heat { values: values.collect(), frame }
    }

    fn spot(x: f32, y: f32, radius: f32) -> impl Fn(f32, f32) -> f32 {
        move |column, row| (1.0 - (column - x).hypot(row - y) / radius).max(0.0)
    }

    #[test]
    fn a_spot_has_a_circle_at_half_heat() {
        let found = loops(&heat(WHOLE, spot(60.0, 80.0, 40.0)), 0.5, [448, 224]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].first(), found[0].last());
        assert!((12..200).contains(&found[0].len()), "{} points", found[0].len());
        for [x, y] in &found[0] {
            let radius = (x / 2.0 - 60.0).hypot(y - 80.0);
            assert!((radius - 20.0).abs() < 0.3, "{radius}");
        }
    }

    #[test]
    fn a_region_closes_along_the_edge_of_the_scan() {
        let frame = Letterbox { left: 56, top: 0, width: 112, height: 224 };
        let found = loops(&heat(frame, |_, _| 1.0), 0.5, [1000, 2000]);
        assert_eq!(found.len(), 1);
        let bounds = |axis: usize| {
            let values = found[0].iter().map(|p| p[axis]);
            (values.clone().fold(f32::MAX, f32::min), values.fold(0.0, f32::max))
        };
        assert_eq!((bounds(0), bounds(1)), ((0.0, 1000.0), (0.0, 2000.0)));
    }

    #[test]
    fn saddles_and_noise_make_closed_lines_within_the_scan() {
        let noise = heat(WHOLE, |x, y| ((x * 12.9898 + y * 78.233).sin() * 43_758.547).fract());
        let board = heat(WHOLE, |x, y| ((x as u32 + y as u32) % 2) as f32);
        for map in [noise, board] {
            let found = loops(&map, 0.5, [300, 300]);
            assert!(found.len() > 1000, "{}", found.len());
            for line in &found {
                assert_eq!(line.first(), line.last());
                assert!(line.iter().flatten().all(|v| (0.0..=300.0).contains(v)));
            }
        }
    }

    #[test]
    fn cold_and_broken_maps_have_no_lines() {
        assert!(loops(&heat(WHOLE, |_, _| 0.2), 0.5, [300, 300]).is_empty());
        assert!(loops(&heat(WHOLE, |_, _| f32::NAN), 0.5, [300, 300]).is_empty());
    }
}
