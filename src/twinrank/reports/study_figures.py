"""The figures of a study, each made of the values in results.json; what is absent is not drawn."""

from __future__ import annotations

from html import escape
from typing import Any

from plotly.graph_objects import Figure, Scatter

from twinrank.reports.drawing import (
    GREEN,
    ORANGE,
    RED,
    bars,
    colour,
    curves,
    panels,
    points,
    styled,
    text_positions,
)
from twinrank.reports.figures import COLOURS, GREY, SYMBOLS
from twinrank.reports.study import p_value, signed, signed_interval
from twinrank.reports.study_findings import TOP_3, UNTRAINED, arms_of, fate, reached, type_auc
from twinrank.reports.terminal import figure

Json = dict[str, Any]
FATE_COLOURS = {"collapsed": RED, "worse": ORANGE, "whole": GREEN}

# In the order of the story: what ranks right after pre-training, and what was in its batches.
TOLD = {
    UNTRAINED: "untrained encoder",
    "handover-barlow-zero-shot": "one answer a batch<br>(as published)",
    "control-large-answers": "one answer a batch,<br>large answers only",
    "control-all-statistics": "one answer a batch,<br>statistics of all",
    "control-shuffled": "different answers,<br>shuffled partners",
    "control-across": "different answers",
    "control-small-batches": "different answers,<br>small batches",
}
PRETRAINED = ("handover-barlow-zero-shot", "control-across", "barlow-zero-shot")
LEARNERS = {
    "published heads on CLS": (
        "handover-dual",
        "handover-barlow-inherit",
        "handover-barlow-freeze",
        "control-across-freeze",
    ),
    "residual towers on means": ("residual", "barlow-inherit", "barlow-freeze", "barlow-joint"),
}


def controls_figure(results: Json) -> Figure:
    """Top-3 accuracy of what ranks right after pre-training, in the order of the story."""
    arms = arms_of(results)
    fates = {name: fate(arms[name], arms) for name in TOLD if name in arms and name != UNTRAINED}
    told = {name: fates.get(name) for name in TOLD if name in arms}
    plot = Figure()
    for kind in dict.fromkeys(told.values()):
        own = [arms[name] for name, its in told.items() if its == kind]
        values = [arm["overall"][TOP_3] for arm in own]
        plot.add_bar(
            orientation="h",
            name=kind or "not pre-trained",
            y=[TOLD[arm["name"]] for arm in own],
            x=values,
            error_x=bars(values, [arm["intervals"]["overall"][TOP_3] for arm in own]),
            marker={"color": FATE_COLOURS[kind] if kind else GREY},
            hovertext=[_about(arm) for arm in own],
            hoverinfo="text",
        )
    order = [TOLD[name] for name in reversed(told)]  # the first on top
    plot.update_yaxes(categoryorder="array", categoryarray=order, automargin=True)
    plot.update_xaxes(title_text="test top-3 accuracy", rangemode="tozero")
    return styled(plot, "Ranking right after pre-training", height=150 + 52 * len(told))


def pretraining_figure(results: Json) -> Figure:
    """The Barlow Twins loss, and validation accuracy, by epoch of pre-training."""
    plot = panels("Barlow Twins loss (first epoch: 1)", "validation top-3 accuracy")
    arms = arms_of(results)
    for name in (name for name in PRETRAINED if name in arms):
        seeds = arms[name]["epochs"]["pretraining"]
        curves(plot, 1, name, [points(seed, "barlow_loss", relative=True) for seed in seeds])
        curves(plot, 2, name, [points(seed, TOP_3) for seed in seeds], legend=False)
    plot.update_xaxes(title_text="epoch of pre-training")
    plot.update_yaxes(rangemode="tozero")
    return styled(plot, "While pre-training")


def learning_figure(results: Json) -> Figure:
    """Validation top-3 accuracy by epoch of ranking, with and without pre-training."""
    plot = panels(*LEARNERS)
    arms = arms_of(results)
    for place, names in enumerate(LEARNERS.values(), start=1):
        for name in (name for name in names if name in arms):
            seeds = arms[name]["epochs"]["ranking"]
            curves(plot, place, name, [points(seed, TOP_3) for seed in seeds])
    plot.update_xaxes(title_text="epoch of ranking")
    plot.update_yaxes(title_text="validation top-3 accuracy")
    return styled(plot, "While learning to rank", height=520)


def labels_figure(results: Json) -> Figure:
    """Quality by share of the training labels, with 95 % intervals."""
    plot = panels("test top-3 accuracy", "test MAP@10")
    of_all = [row for row in results["fewer_labels"]["rows"] if not row["fewer_of"]]
    rows = sorted(of_all, key=lambda row: row["share"])
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        shares = [100 * row["share"] for row in own]
        for place, metric in enumerate((TOP_3, "map@10"), start=1):
            values = [row["overall"][metric] for row in own]
            bounds = [
                row["intervals"]["overall"][metric] or (v, v)
                for row, v in zip(own, values, strict=True)
            ]
            look = {"legendgroup": name, "name": name}
            band = Scatter(
                x=shares + shares[::-1],
                y=[low for low, _ in bounds] + [high for _, high in reversed(bounds)],
                fill="toself",
                fillcolor=colour(name, 0.12),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                **look,
            )
            line = Scatter(
                x=shares,
                y=values,
                mode="lines+markers",
                line={"color": colour(name)},
                hovertext=[f"{row['share']:.0%} of labels<br>{_about(row)}" for row in own],
                hoverinfo="text",
                showlegend=place == 1,
                **look,
            )
            plot.add_traces([band, line], rows=1, cols=place)
    ticks = sorted({100 * row["share"] for row in rows})
    labels = [f"{tick:.0f} %" for tick in ticks]
    plot.update_xaxes(type="log", tickvals=ticks, ticktext=labels, title_text="training labels")
    return styled(plot, "With fewer labels")


def types_figure(results: Json) -> Figure:
    """Top-3 accuracy with minus without pre-training, in all and for each type of query."""
    rows = [d for d in results["differences"] if d["metric"] == TOP_3]
    pairs = list(dict.fromkeys((d["arm"], d["without"]) for d in rows))
    kinds = list(dict.fromkeys(d["type"] for d in rows))
    plot = Figure()
    plot.add_vline(x=0, line={"color": GREY, "width": 1})
    for i, kind in enumerate(kinds):
        own = [d for d in rows if d["type"] == kind]
        shift = 0.6 * ((i + 0.5) / len(kinds) - 0.5)  # beside each other on one line
        plot.add_scatter(
            mode="markers",
            name=escape(kind or "all queries", quote=False),
            x=[d["difference"] for d in own],
            y=[pairs.index((d["arm"], d["without"])) + shift for d in own],
            error_x=bars([d["difference"] for d in own], [d["interval"] for d in own]),
            marker={
                "color": COLOURS[(i - 1) % len(COLOURS)] if kind else GREY,
                "symbol": SYMBOLS[i % len(SYMBOLS)],
                "size": 10,
            },
            hovertext=[_difference(d) for d in own],
            hoverinfo="text",
        )
    names = [f"{arm}<br>minus {without}" for arm, without in pairs]
    plot.update_yaxes(tickvals=list(range(len(pairs))), ticktext=names)
    plot.update_yaxes(autorange="reversed", automargin=True, zeroline=False, showgrid=False)
    plot.update_xaxes(title_text="difference in test top-3 accuracy")
    return styled(plot, "What pre-training changes", height=150 + 52 * len(pairs))


def space_figure(results: Json) -> Figure:
    """Each recipe by how well its space tells types apart, and how well it ranks."""
    arms = [arm for arm in results["arms"] if type_auc(arm) is not None]
    x = [arm["geometry"]["type_auc"]["mean"] for arm in arms]
    y = [arm["overall"][TOP_3] for arm in arms]
    names = [arm["name"] for arm in arms]
    plot = Figure()
    plot.add_scatter(
        mode="markers+text",
        x=x,
        y=y,
        text=names,
        textposition=text_positions(x, y, names),
        textfont={"size": 11},
        marker={"color": [colour(name) for name in names], "size": 11},
        hovertext=[
            f"{_about(arm)}<br>type AUC {figure(a)}" for arm, a in zip(arms, x, strict=True)
        ],
        hoverinfo="text",
        cliponaxis=False,
        showlegend=False,
    )
    plot.update_xaxes(title_text="how well the space tells the types apart (AUC)")
    plot.update_yaxes(title_text="test top-3 accuracy", rangemode="tozero")
    styled(plot, "Mixing types and ranking", height=600)
    return plot.update_layout(margin_r=140)  # for the names


FIGURES = {
    "pretraining": pretraining_figure,
    "controls": controls_figure,
    "learning": learning_figure,
    "types": types_figure,
    "labels": labels_figure,
    "space": space_figure,
}


def _about(arm: Json) -> str:
    """For hovering: what a recipe reaches in all and for each type."""
    lines = [f"<b>{arm['name']}</b>, top-3 accuracy / MAP@10"]
    groups = {"all queries": None, **{kind: kind for kind in arm["types"]}}
    for label, kind in groups.items():
        cells = " / ".join(reached(arm, metric, kind) for metric in (TOP_3, "map@10"))
        lines.append(f"{escape(label, quote=False)}: {cells}")
    return "<br>".join(lines)


def _difference(d: Json) -> str:
    group = escape(d["type"] or "all queries", quote=False)
    around = f"{signed(d['difference'])} ({signed_interval(d['interval'])})"
    head = f"<b>{d['arm']}</b> minus {d['without']}"
    return f"{head}<br>{group}: {around}, p (Holm) {p_value(d['p_holm'])}"
