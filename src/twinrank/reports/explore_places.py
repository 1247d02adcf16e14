"""Where on an exploration's page each finding is shown."""

PLACES = {  # the section that shows what a finding rests on
    "types": "Types and splits",
    "splits": "Types and splits",
    "unlabelled": "Types and splits",
    "overlap": "Near twins among the queries",
    "answers": "How often each answer is right",
    "unused": "Answers that are right for no query",
    "markup": "Lengths, and what is cut",
    "lengths": "Lengths, and what is cut",
    "threads": "Do the queries of one answer belong together?",
    "labels": "Labels that look wrong",
    "twins": "Near twins among the queries",
    "answer_twins": "Near twins among the answers",
    "space": "The raw features",
    "words": "Words that mark a type",
}
