"""How mails and chats mark what asks nothing, by language; a further language is a line in each."""

from __future__ import annotations

import re

# All patterns read a line or a few, and repeat a bounded number of times.
IGNORED = r"[>*\s]{0,20}"  # before a line of a quote


def _compile(pattern: str, *phrases: str) -> re.Pattern[str]:
    """Compile a pattern, case aside, in which `ANY` stands for one of the phrases."""
    return re.compile(pattern.replace("ANY", f"(?:{'|'.join(phrases)})"), re.IGNORECASE)


ASKER = "user|customer|client|visitor|requester|end[- ]user|kunde|bruger|kundin|besucher|nutzer"
AGENT = "agent|support|helper|assistant|bot|system|advisor|medarbejder|rådgiver|berater|mitarbeiter"
TURN = re.compile(
    rf"^(?:(?P<asker>{ASKER})|{AGENT})(?: [0-9]{{1,3}})?:[ \t]", re.IGNORECASE | re.MULTILINE
)

# Quotes: the line above one, the head of a mail, the line of older programs and of help desks.
WROTE = (
    r"\b(?:wrote|skrev|schrieb|schreef|escribió|ha scritto|a écrit|kirjoitti|napisał(?:\(a\))?)\b"
)
DATE = r"[0-9]{1,2}[:.][0-9]{2}|[0-9]{4}|[0-9]{1,2}[./-][0-9]|[0-9]{1,2}\.? [^\W\d]{3}"
INTRODUCTION = re.compile(  # by its date, or by the writer's address
    r"(?:(?:On|Am|Den|D\.|Le|El|Il|Op|På|W dniu) |\w{2,10}\.?,? (?:d\. |den )?[0-9]|[0-9])"
    rf"(?=.{{0,200}}?(?:{DATE})).{{1,300}}?{WROTE}.{{0,160}}:\W{{0,9}}|"
    rf"[^<>@]{{1,100}}<[^<>\s@]{{1,64}}@[^<>\s]{{1,90}}>.{{0,60}}{WROTE}.{{0,80}}:\W{{0,9}}"
)
SENDER = _compile(rf"{IGNORED}ANY\s?:\*?\s", "From", "Fra", "Von", "Från", "Van", "Da", "Od")
HEADER = _compile(
    rf"{IGNORED}ANY\s?:\*?(?:\s|$)",
    *("Sent", "To", "Cc", "Subject", "Date"),
    *("Sendt", "Til", "Emne", "Dato", "Kopi"),
    *("Gesendet", "An", "Betreff", "Datum"),
    *("Skickat", "Till", "Ämne", "Kopia"),
    *("Verzonden", "Aan", "Onderwerp"),
    *("Inviato", "Oggetto"),
    *("Wysłano", "Do", "Temat"),
)
SEPARATOR = _compile(
    rf"{IGNORED}-{{2,30}}\s?ANY\s?-{{2,30}}\s{{0,9}}|##-.{{0,120}}-##\s{{0,9}}",
    *("Original Message", "Oprindelig (?:meddelelse|besked)", "Opprinnelig melding"),
    *("Ursprüngliche Nachricht", "Originalnachricht", "Original-Nachricht"),
    *("Ursprungligt meddelande", "Oorspronkelijk bericht", "Message d'origine"),
)
RULE = " \t\r\u00a0_=*\u2014-"  # of such signs a rule between mails is made
FORWARDED = _compile(r"\s{0,9}ANY\s?:", "fwd?", "vs", "wg", "tr", "rv")

# Signatures, near the end of a mail.
DELIMITER = re.compile(r"\s?(?:--|__)\s*")
DEVICES = (
    r"iphone|ipad|android|outlook|samsung|galaxy|mobil|mail|phone|handy|telefon|pixel|tablet|"
    "proton|windows"
)
SENT_FROM = _compile(
    rf"\s{{0,9}}(?=.{{0,90}}(?:{DEVICES}))ANY(?: [^\s.!?]{{1,30}}){{0,7}}(?: \S{{1,40}})?\s{{0,9}}",
    *("sent (?:from|via|with)", "get outlook for"),
    *("sendt (?:fra|via|med)", "hent outlook (?:til|for)", "skickat från", "hämta outlook"),
    *("gesendet (?:von|mit|über)", "von meine[mr] .{1,40} gesendet"),
    *("envoyé (?:de|depuis)", "enviado desde", "inviato da", "verzonden (?:vanaf|met)"),
)
UPPER = "A-Z\u00c0-\u00d6\u00d8-\u00de"
NAME = rf"[{UPPER}][\w.'-]{{0,25}}"
ENDS_LINE = "(?=[,.! ]*$)"
JOINED = r"(?:(?:[^\W\d_]{2,9} ){1,3}(?:and|&|og|und) )?"  # Besten Dank und
CLOSING_LINE = (  # a phrase in any case, perhaps with a name behind it
    rf"\s{{0,9}}(?i:{JOINED}(?:ANY)(?: fra| from| von)?)"
    rf"(?:[,.! ]{{1,3}}{NAME}(?: (?:{NAME}|von|og|and|&)){{0,4}})?[,.! ]*"
)
CLOSINGS = (
    *(r"(?:(?:with )?(?:best|kind|kindest|warm|many) )?regards", "all the best", "best wishes"),
    *("cheers", r"(?:yours )?(?:sincerely|faithfully|truly)"),
    r"(?:med )?(?:de )?(?:venlige?|bedste|mange|kærlig|vennlig|varme) hils(?:en|ner|ener)",
    *("hilsen", "hilsner", r"m\.?v\.?h\.?", r"d\.?b\.?h\.?", "vh"),
    r"(?:med )?(?:vänlig|bästa) hälsning(?:ar)?",
    r"mit (?:freundlichen?|besten|lieben|vielen|herzlichen) gr(?:ü|ue)(?:ß|ss)en?",
    r"(?:freundlich|best|lieb|viel|schön|herzlich)e gr(?:ü|ue)(?:ß|ss)e(?: aus [^\W\d_]{2,20})?",
    *("gru(?:ß|ss)", "hochachtungsvoll", f"(?:lg|vg|mfg){ENDS_LINE}"),
)
THANKS = (  # often stand before a question, too: less may follow
    r"(?:many |kind )?thank(?:s| you)(?: (?:so much|very much|a lot|again|in advance))?"
    r"(?: for (?:your|the|any|all your|all the) (?:help|time|support|assistance))?",
    *("thx", f"best{ENDS_LINE}"),
    *(r"(?:på forhånd )?(?:mange )?tak(?: på forhånd| for hjælpen)?", "kh"),
    r"(?:vielen |besten )?dank(?:e)?(?: im voraus)?",
)
IS_CLOSING = re.compile(CLOSING_LINE.replace("ANY", "|".join(CLOSINGS)))
IS_THANKS = re.compile(CLOSING_LINE.replace("ANY", "|".join(THANKS)))
IS_NAME = re.compile(r"\s*(?:[^\s0-9]{1,40}\s+){0,4}[^\s0-9]{1,40}\s*")  # at most five words
MORE_TO_SAY = re.compile(r"\?\s*$|^\s*p\.?\s?s\b", re.IGNORECASE)
DISCLAIMER = _compile(
    "ANY",
    *("confidential", "privileged", "intended (?:recipient|solely|only)", "disclaimer"),
    *("fortrolig", "tiltænkt"),
    *("vertraulich", "bestimmt(?:en)? (?:für|empfänger)", "irrtümlich"),
)

# Auto-replies: by their subject, or by how they begin.
AUTO_SUBJECT = _compile(
    r"\s{0,9}(?:(?:subject|emne|betreff):\s?)?ANY\s?:",
    r"auto(?:matic|mated|-)?[- ]?(?:reply|response)",
    *("out of (?:the )?office", "autosvar", "automatisk svar", "fravær", "ikke til stede"),
    *("automatische antwort", "abwesenheitsnotiz", "abwesenheit"),
    *("automatiskt svar", "automatisch antwoord"),
)
AUTOMATIC = _compile(
    r"(?:^|[.!\n]\s{0,5})ANY",
    "this is an? (?:automated|automatic)",
    "this (?:e-?mail|message) (?:was|is|has been) (?:sent |generated )?automatic",
    "dette er (?:en|et) auto",
    "denne (?:e-?mail|besked|meddelelse) er (?:sendt |genereret |afsendt |dannet )?auto",
    "dies ist eine automatisch",
    "diese (?:e-?mail|nachricht) wurde automatisch",
)
IS = r"(?:I am|I'm|I will be|we are|jeg er|jeg holder|vi er|vi holder|ich bin|bin ich|wir sind)"
AWAY = _compile(
    rf"\b{IS}\b(?:[^.?!\n]|(?<=[0-9])\.){{0,60}}\bANY\b",
    *("out of (?:the )?office", "on (?:annual |parental |sick )?(?:leave|vacation|holiday)"),
    *("away from my", "ferie", "ferielukket", "ikke på kontoret", "ude af kontoret"),
    *("på barsel", "på kursus", "bortrejst", "fraværende"),
    *("nicht im (?:büro|haus)", "außer haus", "im urlaub", "abwesend", "nicht erreichbar"),
)
ANSWERS_LATER = _compile(
    r"\bANY\b",
    *("thank(?:s| you) for your (?:e-?mail|mail|message)", "urgent", "contact (?!me)"),
    *("(?:reply|respond|answer|get back) to you", "limited access"),
    *("tak for din (?:e-?mail|mail|besked|henvendelse)", "haster", "hastesager"),
    *("kontakte? (?!mig)", "(?:svarer|besvarer?|læser) (?:på )?(?:mails?|din|ikke)"),
    *("danke? für (?:ihre|deine|die)", r"dringend\w*", "wenden sie sich", "melde mich"),
    *(r"beantworte\w*", "vertretung", "weitergeleitet"),
)

# Chats: lines of the program, and what a bot or an agent says to everybody.
WHO = r"[\w.,'() -]{1,60}"
TIME = r"(?:[0-9]{1,2}[:.][0-9]{2}(?:[:.][0-9]{2})?[\s\])-]{0,5})?"
SYSTEM_LINE = _compile(
    rf"[\s*\[(-]{{0,5}}{TIME}ANY[\s.!*\])-]{{0,5}}",
    rf"{WHO} (?:has |have )?(?:joined|left|entered|ended|closed) (?:the |this )?"
    "(?:chat|conversation)",
    rf"(?:the )?(?:chat|conversation) (?:has |was )?(?:started|ended|closed|transferred to {WHO})",
    rf"you are now (?:chatting|connected|speaking) (?:with|to) {WHO}",
    rf"{WHO} (?:er|har) (?:kommet ind i|tilsluttet sig|forladt|afsluttet|lukket) "
    "(?:chatten|samtalen)",
    rf"{WHO} deltager nu i (?:chatten|samtalen)",
    rf"(?:chatten|samtalen) (?:er|blev|er blevet) (?:startet|afsluttet|lukket|overført til {WHO})",
    rf"du (?:chatter|taler) nu med {WHO}",
    rf"{WHO} (?:ist|hat) (?:dem|den|das) (?:chat|gespräch) (?:beigetreten|verlassen|beendet)",
    rf"(?:der )?chat (?:wurde|ist) (?:gestartet|beendet|geschlossen|an {WHO} übergeben)",
    rf"sie (?:chatten|sprechen) jetzt mit {WHO}",
)
SAYS_WHO_IT_IS = (
    r"\b(?:I'?m|I am|this is|my name is|you'?re (?:chatting|talking) (?:with|to)|jeg er|jeg hedder|"
    r"mit navn er|ich bin|mein name ist)\b.{0,50}?\b"
)
VIRTUAL = r"(?:virtual|digital|automated|virtuel\w{0,3}|digital\w{1,3})"
BOT = _compile(
    rf"{SAYS_WHO_IT_IS}(?:(?P<sure>{VIRTUAL} assist[ae]nt(?:in)?|chat-?(?:bot|robot))|ANY)\b",
    *("assist[ae]nt(?:in)?", "bot"),
)
OFFER = _compile(
    r"\bANY\b",
    *("how (?:can|may) (?:I|we) (?:help|assist)", "what can (?:I|we) (?:help|do for)"),
    "(?:hvordan|hvad) kan (?:jeg|vi) (?:hjælpe|gøre for)",
    "(?:wie|womit) kann (?:ich|wir) (?:ihnen |dir )?(?:helfen|weiterhelfen|behilflich)",
)
