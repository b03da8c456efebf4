"""Texts for comparing an export with its bundle: short and long, with names, numbers, several scripts and typos."""

from __future__ import annotations

from keras_peft.inputs.input import Input, Text
from keras_peft.inputs.words import WordInput

SENTENCES: tuple[str, ...] = (
    "Which of the two is faster?",
    "The train was late again, so we walked along the river and talked about the new bridge.",
    "No.",
    "A small team published its results this morning; by noon three others had repeated the measurements, and one "
    "of them found a mistake in the second table.",
    "Please send the invoice to the address below before the end of the month!",
    "12 people, 3 cars and 1 dog: that is not going to work.",
    "turn off the lights in the kitchen and the hallway",
    "I ordered two lamps and got one. The box was open when it arrived.",
    "Best soup I've had in years.",
    "The battery lasts for a day at most, the screen scratches if you look at it, and the support never answers. "
    "I would not buy it again.",
    "ok thx",
    "My flight from Lisbon to Oslo was cancelled at 6:40, and nobody could tell me when the next one leaves.",
    "What time does the pharmacy on the corner close on Sundays?",
    "set an alarm for half past seven tomorrow",
    "The library reopens on 3 March after the renovation; the reading room stays closed until summer.",
    "He said it was fine. It was not fine.",
    "Can I pay in three instalments, and is there a fee for that?",
    "A patch for the reader of compressed archives fixes a crash when the last block is empty.",
    "We are looking for someone who can repair a harmonium from 1911.",
    "It rained for nine days, and on the tenth the cellar was full.",
    "Your password will expire in 5 days. Click here to keep it.",
    "The acting is wooden and the plot has more holes than the ship that it is about.",
    "A gentle film about two brothers who inherit a bakery, with the warmest last scene of the year.",
    "Please stop sending me these e-mails.",
    "The committee rejected the proposal by seven votes to four, citing the cost of the second phase.",
    "how do i reset the router without losing my settings",
    "Carrots, onions, a bay leaf, and then nothing but patience.",
    "She plays the viola in an orchestra and repairs bicycles on weekends.",
    "This release drops support for version 3.9 and speeds up the parser by a third.",
    "Why is my bill twice as high as last month?",
    "The museum shows 140 drawings from the estate of a lighthouse keeper.",
    "Not bad, not good, just a phone.",
    "play some jazz from the fifties",
    "In the second half they defended with nine players and still lost by three goals.",
    "I can't find the setting that you describe; my menu looks different.",
    "The new timetable takes effect on Monday. Buses on line 14 will then run every ten minutes.",
    "Unsubscribe",
    "Is it possible to change the name on a ticket after it was paid?",
    "Scientists measured the song of whales near the harbour and found that it became louder with every ferry.",
    "A wonderful evening, thank you all for coming, and sorry again about the piano.",
    "The tool reads a table and writes a chart; nothing else, and that is what I like about it.",
    "add milk, eggs and rice to the shopping list",
    "It broke after two weeks. They replaced it at once and apologised, which is more than I expected.",
    "Interest rates remain unchanged, the central bank said on Thursday, but it left the door open for a cut.",
    "Where can I see how much storage is left?",
    "The package was delivered to the neighbour, who is on holiday until August.",
    "Two stars for the view, none for the food.",
    "remind me to call the dentist when I get home",
    "The author knows her subject and does not trust her readers with it.",
    "What is the difference between the two plans, apart from the price?",
    "A headlamp, a map, dry socks: leave the rest at home.",
    "The server answers with error 503 whenever more than twenty people are logged in.",
    "Absolutely love it!!! Bought another one for my mum :)",
    "The court found that the clause was void, because it had been hidden on page 43.",
    "is the kitchen window still open",
    "Thank you for your message. We are closed until 7 January and will answer after that.",
    "An earthquake of magnitude 5.8 shook the coast at night; no injuries were reported.",
    "The chair wobbles.",
    "How many calories are in a slice of that cake, roughly?",
    "They moved the meeting to Friday, then to Wednesday, and then they held it without us.",
    "The choir rehearses in the gym because the heating in the church has failed again.",
    "I would like to cancel my subscription with immediate effect and ask you to confirm this in writing.",
    "who won the match last night",
    "The first chapter is free; after that, you will want to pay.",
    "Lower the temperature by two degrees",
    "A beginner can assemble it in an hour, an engineer in three.",
    "The bridge is closed for lorries over 7.5 tonnes, and cyclists have to dismount.",
    "Great value, but the manual is only in a language that I don't speak.",
    "Does the warranty cover water damage, and if so, for how long?",
    "He has written the same poem for forty years, and it is getting better.",
    "Our records show that the amount of $1,250.00 is overdue since 15/09.",
    "The dog slept through the whole thunderstorm, the cat did not.",
    "It is unclear who will pay for the repairs, the city or the owner of the tunnel.",
    "vacuum the living room at noon",
    "Too loud, too long, and exactly what I needed.",
    "The update makes the app start in half the time, yet it still forgets my settings.",
    "A strike of the ground staff grounded 214 planes on Tuesday.",
    "Could you tell me whether this also comes in green?",
    "The mayor promised 300 flats and opened 12.",
    "My grandmother's recipe says: as much flour as it takes.",
    "Das Paket ist angekommen, aber die Rechnung fehlt.",
    "Mach bitte das Licht im Schlafzimmer aus.",
    "Le train de nuit pour Nice part à 21 h 52, quai 7.",
    "¿A qué hora cierra la farmacia de la esquina?",
    "Il ristorante è piccolo, il servizio lento, il pesce ottimo.",
    "De fiets staat nog steeds bij het station.",
    "Vi ses på torsdag klokka sju, ta med paraply.",
    "A könyvtár hétfőn zárva tart.",
    "Поезд опоздал на два часа.",
    "今日は雨が降っています。",
    "이 제품은 어디에서 살 수 있나요?",
    "الاجتماع يوم الخميس في العاشرة صباحا",
    "naïve café, 50 µg, 3 × 4 = 12, “quoted” — and so on…",
    "Teh quikc borwn fox jumsp ovr the layz dog",
    "AAAAA",
    "😀 👍 🎉",
)


def texts_for(rows: Input) -> tuple[Text, ...]:
    """Returns the texts for a kind of input.

    Args:
        rows: Kind of input: single texts, pairs of texts or lists of words.

    Example:
        >>> len(texts_for(TextInput())) >= 64
        True
    """
    if isinstance(rows, WordInput):
        return tuple(read for sentence in SENTENCES if (read := rows.read([sentence])))
    if len(rows.columns) == 1:
        return SENTENCES
    following = (*SENTENCES[1:], SENTENCES[0])
    return tuple(zip(SENTENCES, following, strict=True))
