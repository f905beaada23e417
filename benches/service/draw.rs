//! The curves, as pictures that a README can show.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Outcome;
use crate::number::plain;
use crate::report::{Curve, Report};

/// The size of a picture, and of what is left of its legend.
const SIZE: (u32, u32) = (900, 460);
const CHART_WIDTH: u32 = 700;
/// Where the legend begins, and how far its lines are apart.
const LEGEND: (i32, i32) = (6, 56);
const LEGEND_STEP: i32 = 24;
/// What tells lines apart that are about the same: first SQLite, then PostgreSQL, by what is done.
const COLOURS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 99, 20),
    RGBColor(44, 140, 60),
    RGBColor(150, 60, 170),
    RGBColor(190, 40, 60),
    RGBColor(110, 90, 80),
    RGBColor(20, 150, 160),
    RGBColor(120, 120, 30),
];
/// The length of a dash and of the gap behind it.
const DASH: (i32, i32) = (7, 5);

/// A picture, and how its points are placed.
struct Picture {
    name: &'static str,
    title: &'static str,
    across: &'static str,
    up: &'static str,
    /// Where a value lies, from left to right, and the value that lies there.
    place: fn(f64) -> f64,
    value: fn(f64) -> f64,
}

const PICTURES: [Picture; 4] = [
    Picture {
        name: "create",
        title: "Invitations created, durable",
        across: "callers at once, and invitations in a raw commit",
        up: "a second",
        place: f64::log2,
        value: f64::exp2,
    },
    Picture {
        name: "latency",
        title: "Latency at 70 % of the throughput",
        across: "percent of calls",
        up: "milliseconds",
        place: nines,
        value: percent,
    },
    Picture {
        name: "overload",
        title: "Invitations created beyond what the service can bear",
        across: "times of what it can bear",
        up: "a second",
        place: f64::log2,
        value: f64::exp2,
    },
    Picture {
        name: "growth",
        title: "p99 by the number of requests stored",
        across: "requests",
        up: "milliseconds",
        place: f64::log10,
        value: power_of_ten,
    },
];

/// Draws what the reports hold, a file for each picture.
pub fn draw(folder: &Path, reports: &[Report]) -> Outcome<()> {
    for picture in PICTURES {
        let curves = reports.iter().flat_map(|report| &report.curves);
        let own = curves.filter(|it| it.picture == picture.name && !it.points.is_empty());
        let own: Vec<&Curve> = own.collect();
        if !own.is_empty() {
            let path = folder.join(format!("{}.svg", picture.name));
            let area = SVGBackend::new(&path, SIZE).into_drawing_area();
            picture
                .draw(&area, &own)
                .map_err(|error| error.to_string())?;
            area.present().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

impl Picture {
    fn draw<'a>(&self, area: &DrawingArea<SVGBackend<'a>, Shift>, curves: &[&Curve]) -> Drawn<'a> {
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(CHART_WIDTH);
        self.draw_chart(&left, curves)?;
        for (at, curve) in curves.iter().enumerate() {
            let (x, y) = (LEGEND.0, LEGEND.1 + LEGEND_STEP * at as i32);
            let end = if curve.is_floor { x + 12 } else { x + 24 };
            let line = [(x, y), (end, y)];
            right.draw(&PathElement::new(
                line,
                colour_of(curves, at).stroke_width(2),
            ))?;
            if curve.is_floor {
                let dash = [(x + 18, y), (x + 24, y)];
                right.draw(&PathElement::new(
                    dash,
                    colour_of(curves, at).stroke_width(2),
                ))?;
            }
            let name = Text::new(curve.name.clone(), (x + 32, y - 7), ("sans-serif", 14));
            right.draw(&name)?;
        }
        Ok(())
    }

    fn draw_chart<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, Shift>,
        curves: &[&Curve],
    ) -> Drawn<'a> {
        let all = || curves.iter().flat_map(|curve| &curve.points);
        let places = || all().map(|(across, _)| (self.place)(*across));
        let left = places().fold(f64::INFINITY, f64::min).floor();
        let right = places().fold(left + 1.0, f64::max).ceil();
        let top = all().map(|(_, up)| *up).fold(0.0, f64::max) * 1.08;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 20))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(left..right, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .label_style(("sans-serif", 14))
            .x_labels((right - left) as usize + 1)
            .x_label_formatter(&|place| whole(*place, |it| plain((self.value)(it))))
            .y_label_formatter(&|up| plain(*up))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(222, 222, 222))
            .draw()?;
        for (at, curve) in curves.iter().enumerate() {
            let points = curve.points.iter();
            let points: Vec<(f64, f64)> = points.map(|(x, y)| ((self.place)(*x), *y)).collect();
            let style = colour_of(curves, at).stroke_width(2);
            match curve.is_floor {
                true => chart.draw_series(DashedLineSeries::new(points, DASH.0, DASH.1, style))?,
                false => chart.draw_series(LineSeries::new(points, style).point_size(3))?,
            };
        }
        Ok(())
    }
}

/// The colour of a curve: one for each that is no floor; a floor has that of the curve before it.
fn colour_of(curves: &[&Curve], at: usize) -> RGBColor {
    let before = curves[..=at].iter().filter(|curve| !curve.is_floor);
    COLOURS[before.count().saturating_sub(1) % COLOURS.len()]
}

/// The label of a place, where it is a whole number.
fn whole(place: f64, label: impl Fn(f64) -> String) -> String {
    match (place - place.round()).abs() < 1e-6 {
        true => label(place.round()),
        false => String::new(),
    }
}

/// Percentiles far out are far apart: each nine takes the same room.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-6).log10()
}

fn percent(nines: f64) -> f64 {
    (1.0 - 10f64.powf(-nines)) * 100.0
}

fn power_of_ten(exponent: f64) -> f64 {
    10f64.powf(exponent)
}
