"""Commands that train: one run, many side by side, a search, a lesson from feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from twinrank.cli.common import (
    AsJson,
    Data,
    DataOfRun,
    Device,
    DryRun,
    FeedbackUrl,
    FileOption,
    FolderOption,
    RankerFolder,
    RankIndex,
    Ray,
    RayWorkers,
    RecipeName,
    Seed,
    Split,
    Strict,
    Track,
    Workers,
    app,
    check_workers,
    default_feedback,
    feature_store,
    say,
    show,
    warn_of_few,
)
from twinrank.extras import check_installed

PANEL = "Training"


@app.command(rich_help_panel=PANEL)
def train(
    data: Data,
    out: Annotated[Path, FolderOption(help="Folder for the run; it becomes the ranker.")],
    recipe: RecipeName = "even",
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from what OUT holds, or start over.")
    ] = True,
    refit: Annotated[
        bool, typer.Option(help="In the end, train again on train and validation together.")
    ] = True,
    track: Track = None,
    ray: Ray = None,
    workers: RayWorkers = None,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Carry out a recipe: encode what is new, fit the towers, leave a ranker.

    Epochs, weights and confidence are chosen on validation; then it trains again on train and
    validation together. Run the same command again after a kill and it goes on from the last
    epoch. With --ray, workers of a cluster encode, and share every step of the fitting; all of
    them have to see OUT.

    Example: `twinrank train examples/help-centre --recipe even --out runs/first`

    Example: `twinrank train data/mine --out runs/first --ray 10.0.0.5:6379 --workers 4`
    """
    from twinrank.data import Dataset
    from twinrank.recipe import Recipe
    from twinrank.reports.terminal import quality_table
    from twinrank.training import check_tracker, is_main, tracking
    from twinrank.training import train as train_ranker

    check_workers(workers, ray)
    check_tracker(track)
    chosen = Recipe.load(recipe)
    dataset = Dataset.load(data, strict=strict)
    with (
        feature_store(ray, device=device) as store,
        tracking(track, dataset, chosen, seed=seed, out=out) as tracker,
    ):
        how: dict[str, Any] = {"seed": seed, "out": out, "store": store, "refit": refit}
        if ray and chosen.towers:
            from twinrank.cluster import train_on_cluster

            train_on_cluster(dataset, chosen, **how, resume=resume, workers=workers)
            resume = True  # what the cluster has left is read below
        ranker = train_ranker(
            dataset, chosen, **how, resume=resume, on_record=tracker.epoch, device=device
        )
        tracker.reached(ranker.origin.quality)
    summary = {"ranker": str(out), "recipe": chosen.name, **ranker.origin.model_dump()}
    if is_main():  # of several that tuned together
        if ranker.origin.quality:
            warn_of_few((ranker.origin.labelled or {}).get("validation", {}), "validation")
        show(summary if json else quality_table(ranker, out))


@app.command(rich_help_panel=PANEL)
def compare(
    data: Data,
    recipes: Annotated[
        str | None, typer.Option(help="Names or TOML files, with commas between.")
    ] = None,
    study: Annotated[
        Literal["handover"] | None,
        typer.Option(help="A set of recipes with a page that explains them."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds for each recipe.")] = 3,
    split: Split = "test",
    out: Annotated[
        Path | None, FolderOption(help="Folder for runs and tables; default runs/DATA.")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Encode once, train all, and put the recipes side by side in one table.

    Runs that OUT holds already are not done again. The table is also written there, as
    comparison.json and comparison.md; a study writes its results, tables and page to OUT/STUDY.

    Example: `twinrank compare examples/help-centre --recipes bm25,zero-shot,even --seeds 3`

    Example: `twinrank compare examples/help-centre --study handover`
    """
    from twinrank.data import Dataset
    from twinrank.encoding import FeatureStore
    from twinrank.experiments import compare as compared
    from twinrank.experiments import run_study
    from twinrank.recipe import Recipe
    from twinrank.reports.page import check_installed
    from twinrank.reports.terminal import comparison_table, write_comparison

    if not recipes and not study:
        raise typer.BadParameter("give --recipes, or --study, or both")
    if study:
        check_installed()  # now, not when the runs are done
    chosen = [Recipe.load(name.strip()) for name in (recipes or "").split(",") if name.strip()]
    dataset = Dataset.load(data, strict=strict)
    warn_of_few(dataset.labelled().get(split, {}), split)
    home = out or Path("runs") / dataset.name
    how: dict[str, Any] = {"seeds": seeds, "split": split, "workers": workers, "device": device}
    how |= {"out": home, "store": FeatureStore()}
    if study:
        from twinrank.reports.study_report import study_tables, write_study

        studied = run_study(dataset, added=chosen, **how)
        written = write_study(studied.results, studied.pictured, home / study)
        show(studied.results if json else study_tables(studied.results))
    else:
        comparison = compared(dataset, chosen, **how)
        written = write_comparison(comparison, home)
        show(comparison.as_dict() if json else comparison_table(comparison))
    for path in written:
        say(f"written: {path}")


@app.command(rich_help_panel=PANEL)
def sweep(
    data: Data,
    recipe: RecipeName = "even",
    ranges: Annotated[
        Path | None, FileOption(help="Ranges, TOML; default: dropout, learning rate, batch, decay.")
    ] = None,
    objective: Annotated[
        Literal["loss", "worst-type"], typer.Option(help="Loss, or MAP@10 of the worst type.")
    ] = "loss",
    trials: Annotated[int, typer.Option(min=1, help="How many in all, over all calls.")] = 40,
    seed: Seed = 0,
    out: Annotated[Path | None, FolderOption(help="Folder; default runs/DATA/sweeps/NAME.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A database to share; default: SQLite in OUT.")
    ] = None,
    workers: Workers = None,
    ray: Ray = None,
    track: Track = None,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Search for the values of a recipe that are best on validation, by Bayesian search.

    Run the same command again after a kill, or on another machine with the same --storage, and
    it takes part: at most the trials under way are lost. Writes best.toml, sweep.json and a page.

    Example: `twinrank sweep examples/help-centre --recipe residual --trials 40`

    Example: `twinrank sweep data/mine --ray 10.0.0.5:6379 --storage postgresql://twinrank@db/sweeps`
    """
    check_installed("sweeps", "tune", "optuna", "sqlalchemy", "tomli_w", "plotly", "jinja2")
    from twinrank.data import Dataset
    from twinrank.experiments import sweep as sweeping
    from twinrank.experiments.runs import Calls, at_once
    from twinrank.experiments.sweep_ranges import Ranges
    from twinrank.recipe import Recipe
    from twinrank.reports.sweep_report import sweep_table, write_sweep
    from twinrank.training import check_tracker

    check_tracker(track)
    chosen = Recipe.load(recipe)
    dataset = Dataset.load(data, strict=strict)
    search = sweeping.Search(dataset, chosen, Ranges.load(ranges, chosen), objective, seed)
    folder = out or Path("runs") / dataset.name / "sweeps" / search.name
    home = folder.resolve()  # workers start in other folders
    with feature_store(ray, device=device, workers=workers) as store:
        calls: Calls = at_once
        if ray:
            from twinrank.cluster import calls_on_cluster, check_shared

            check_shared(storage)
            calls = calls_on_cluster
        database = sweeping.find_database(storage, home)
        context = sweeping.TrialContext(database, store, home, track, device)
        result = sweeping.sweep(search, context, trials=trials, workers=workers, calls=calls)
    written = write_sweep(result, folder)
    show(result.as_dict() if json else sweep_table(result))
    for path in written:
        say(f"written: {path}")


@app.command(rich_help_panel=PANEL)
def learn(
    ranker: RankerFolder,
    feedback: FeedbackUrl = None,
    data: DataOfRun = None,
    hold_back: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the feedback to measure on.")
    ] = 0.2,
    margin: Annotated[
        float, typer.Option(min=0, help="MAP@10 that a type may lose on the test split.")
    ] = 0.02,
    dry_run: DryRun = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Put the ranker that was replaced in place again.")
    ] = False,
    index: RankIndex = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Train a ranker anew with what people said of it, and replace it if that is not worse.

    Old and new are compared for every type on the test split, which is a gate here and nothing
    else, and on feedback that was held back. A service that runs takes the new ranker up.

    Example: `twinrank learn runs/first --dry-run`

    Example: `twinrank learn runs/first --feedback postgresql://twinrank@db/feedback`

    Example: `twinrank learn runs/first --index http://milvus:19530`
    """
    from contextlib import closing

    from twinrank.encoding import FeatureStore
    from twinrank.ranking import roll_back

    how: dict[str, Any] = {"index": index, "store": FeatureStore(), "device": device}
    if rollback:
        former = roll_back(ranker, **how)
        summary = {"ranker": str(ranker), **former.origin.model_dump(mode="json")}
        done = f"{ranker}: the ranker that was replaced is in place again, the other is kept"
        show(summary if json else done)
        return
    check_installed("trainings", "train", "torch", "transformers")
    check_installed("databases of feedback", "serve", "sqlalchemy")
    from twinrank.feedback.database import Feedback
    from twinrank.feedback.forget import expire
    from twinrank.feedback.learning import learn as learned
    from twinrank.reports.terminal import learning_table

    with closing(Feedback.open(feedback or default_feedback(ranker), create=False)) as opened:
        old = expire(ranker, opened, dry_run=dry_run).verdicts
        if old:
            done = "would be erased" if dry_run else "are erased"
            what = f"{old:,} verdicts older than {opened.retention_days:,} days {done}"
            typer.echo(f"{what}; `serve --keep-feedback-days` says how long", err=True)
        verdicts = opened.verdicts()[old if dry_run else 0 :]
    learning = learned(
        ranker, verdicts, data=data, hold_back=hold_back, margin=margin, dry_run=dry_run, **how
    )
    show(learning.as_dict() if json else learning_table(learning))
