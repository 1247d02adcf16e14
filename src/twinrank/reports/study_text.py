"""What the page of a study says in words that no result changes."""

from __future__ import annotations

PROBLEM = (
    "A support team has help articles, here called answers. People ask for help in two ways: they "
    "type a short question into a search box, or they have a longer conversation. A ranker reads "
    "what they wrote and puts the answers in order. It is good if the right answer is among the "
    "first three, for both kinds of query.",
    "A published system did this with a frozen BERT encoder and a small trained head. It was much "
    "better at one kind of query than at the other. Its authors thought that BERT keeps the two "
    "kinds in two separate regions of its space, and tried to bring them together before the "
    "ranker learned to rank.",
)
TRIED = (
    "They pre-trained the head with Barlow Twins. It takes pairs of views of the same thing and "
    "standardises every feature over the batch. Then it measures how each feature of the first "
    "views correlates with each feature of the second. The loss is small when a feature "
    "correlates fully with itself across the two views and not at all with other features: the "
    "sum of (1 - c)² over the same features, plus a small weight times the sum of c² over "
    "different ones.",
    "In the published version the two views are a question and a conversation with the same "
    "answer, and each batch holds the queries of one answer alone.",
)
HAPPENED = {
    "collapsed": "Pre-training destroyed what the encoder knew.",
    "worse": "Pre-training made ranking worse.",
    "whole": "On these data pre-training did not destroy what the encoder knew.",
}
FATES = {
    "collapsed": "It collapses",
    "worse": "It ranks worse than the untrained encoder, but does not collapse",
    "whole": "It does not collapse",
}
REASON = (
    "The controls put this explanation to the test. Where there is one answer in a batch, what "
    "all its pairs share is that answer. Standardising over the batch subtracts exactly this. "
    "What is left differs at random within each pair, and the loss can only fall by learning "
    "noise. Where the answers of a batch differ, what the two sides of a pair share is the "
    "answer, and what gets lost is the kind of query. Each control changes one thing, and ranks "
    "right after pre-training."
)
# What each control asks, and what follows from what became of it.
CONTROLS = {
    "control-large-answers": (
        "Are most answers too small for a correlation to mean anything? One answer a batch, but "
        "only answers with {min_pairs} pairs or more.",
        {
            "collapsed": "So small batches are not the cause.",
            "worse": "So larger answers soften the damage, and do not undo it.",
            "whole": "So small answers are the cause, or part of it.",
        },
    ),
    "control-all-statistics": (
        "Is it only the standardisation? One answer a batch, but standardised with the statistics "
        "of all answers, so that the answer is not subtracted.",
        {
            "collapsed": "So that alone does not mend it: when the rows of a batch are alike, "
            "their features all move together, and the loss pulls them apart at any cost.",
            "worse": "So standardisation is part of the cause, and not all of it.",
            "whole": "So the standardisation over one answer is the cause.",
        },
    ),
    "control-shuffled": (
        "Is it enough to have many answers in a batch? Different answers, but partners change "
        "places, so that a pair shares nothing.",
        {
            "collapsed": "So a mixed batch is not enough: the pairs must share something.",
            "worse": "So a mixed batch without true pairs still does harm.",
            "whole": "So true pairs are not what keeps ranking alive on these data.",
        },
    ),
    "control-across": (
        "Is it the pairing? Different answers in a batch and true pairs, all else as published.",
        {
            "collapsed": "So the pairing does not explain the collapse.",
            "worse": "So the pairing is part of the cause.",
            "whole": "So the pairing decides.",
        },
    ),
    "control-small-batches": (
        "Is it the size of the batch? Different answers and true pairs, with only {batch_size} "
        "pairs a batch.",
        {
            "collapsed": "So the size of the batch matters too.",
            "worse": "So the size of the batch matters a little.",
            "whole": "So the size of the batch is not what matters.",
        },
    ),
}
MEND = (
    "The mend follows from this. The two sides of one thread, the question somebody asked and the "
    "conversation it led to, are the two views. Threads differ within a batch. A projector on top "
    "takes the decorrelation and is thrown away afterwards. The head is a residual tower, which "
    "starts as the untrained encoder. No label is needed, so unlabelled queries count too."
)
CAPTIONS = {
    "pretraining": "Left: the loss of pre-training. Right: how well the pre-trained tower ranks "
    "by itself. Thick lines are means over seeds, thin lines single seeds.",
    "controls": "Test top-3 accuracy with 95 % intervals. Collapsed: below half the lower end of "
    "the untrained encoder's interval; worse: below that end; whole: not below it.",
    "learning": "Blue lines have no pre-training. A mean ends where its first seed stops.",
    "types": "Right of the line pre-training helps. Bars are 95 % intervals of the difference, "
    "not corrected for there being several.",
    "labels": "Bands are 95 % intervals. They overlap more than the differences do, which are "
    "measured query by query.",
    "space": "An AUC of 1 means that a linear probe always tells a question from a conversation, "
    ".5 that it cannot. Point at a mark for its name and figures.",
}
PUBLISHED = (
    "These are the published system's own figures. They were measured on other data: private "
    "support queries in Danish, with a Danish BERT. Compare what changes from row to row, never "
    "their height with the tables here."
)
PUBLISHED_TABLES = (
    (
        "Published system, Danish private data: top-3 accuracy / MAP@3",
        (
            ("", "total", "question", "conversation"),
            ("baseline, one head", ".44 / .36", ".32 / .24", ".50 / .42"),
            ("by section", ".43 / .33", ".29 / .23", ".49 / .41"),
            ("512 tokens", ".43 / .34", ".32 / .23", ".49 / .40"),
            ("dual encoder", ".49 / .40", ".34 / .26", ".57 / .47"),
            ("Barlow, frozen, then dual, start", "≈0", "-", "-"),
            ("Barlow, frozen, then dual, 48 epochs", ".32", "-", "-"),
        ),
    ),
    (
        "Published system, Danish private data: distances on embeddings scaled to 0 to 1",
        (
            ("", "centroid distance", "distance to answer"),
            ("dual", "2.09", ".059"),
            ("Barlow, zero-shot", "1.6", ".058"),
            ("Barlow, frozen, then dual", "1.07", ".032"),
        ),
    ),
)
READING = (
    "An encoder reads a number of tokens. Of a longer text it is given the beginning, or, as in "
    "the published system, the sentences whose words are rarest elsewhere and most frequent here "
    "(TF-IDF), together with the title: of the whole text, or as many from each section of an "
    "answer. The published system saw no gain from sections or from 512 tokens."
)
MEASURED = (
    "Settings were chosen on the validation split. Top-3 accuracy is the share of queries with a "
    "right answer among the first three; MAP@10 also counts how high the right ones stand. "
    "Intervals are 95 % bootstrap intervals that draw whole threads, because the two sides of a "
    "thread share their label. Differences are tested by flipping the signs of whole threads at "
    "random, and the p-values are corrected by Holm's method for there being several: over all "
    "comparisons of a metric with all labels, and within each share of the labels.",
    "Pre-training sees the queries of the train split and those without any label, and no others. "
    "With fewer labels, whole threads lose theirs and stay as unlabelled queries. A ± is the "
    "standard deviation over seeds.",
)
