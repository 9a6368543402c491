"""Instructions to a small assistant: made from lists of topics and of ways to ask."""

import random
from collections.abc import Iterator

_TOPICS = """
a steam engine; photosynthesis; the water cycle; a solar panel; gravity; a volcano;
earthquakes; the human heart; the immune system; sleep; memory; a bicycle; an airplane wing; a
refrigerator; a microwave oven; a telescope; a compass; magnetism; electricity; a battery; the
internet; a search engine; a web browser; encryption; a database; machine learning; a neural
network; a compiler; version control; a hash table; recursion; sorting algorithms; a linked list;
Python; unit tests; open source software; robots; self-driving cars; 3D printing; satellites; the
Moon; Mars; black holes; stars; the solar system; comets; the seasons; rainbows; clouds; hurricanes;
climate change; recycling; composting; renewable energy; wind power; nuclear power; rivers; oceans;
coral reefs; rainforests; deserts; mountains; glaciers; bees; butterflies; ants; whales; dolphins;
elephants; dogs; cats; owls; penguins; dinosaurs; trees; mushrooms; gardening; tomatoes; growing
herbs; bread; cheese; chocolate; coffee; tea; pasta; soup; a healthy breakfast; vegetarian cooking;
vitamins; hydration; running; yoga; swimming; football; chess; meditation; stress; friendship;
teamwork; leadership; public speaking; time management; job interviews; learning a language;
reading; writing a novel; poetry; photography; painting; music theory; the piano; the guitar; jazz;
opera; theatre; film; museums; architecture; bridges; the Roman Empire; ancient Egypt; ancient
Greece; the Middle Ages; the Renaissance; the Industrial Revolution; the printing press; the French
Revolution; the Silk Road; explorers; Marie Curie; Isaac Newton; Albert Einstein; Leonardo da Vinci;
Ada Lovelace; Charles Darwin; William Shakespeare; democracy; human rights; money; banks; inflation;
a budget; saving money; taxes; insurance; starting a business; marketing; customer service; supply
and demand; trade; cities; public transport; trains; ships; travel; Paris; Tokyo; New
York; Africa; Australia; the Amazon; Antarctica; islands; maps; time zones; calendars; clocks;
probability; statistics; fractions; prime numbers; geometry; algebra; calculus; averages; atoms;
molecules; acids; the periodic table; water; salt; iron; gold; glass; plastic; paper; soap; clothes;
houses; schools; teachers; libraries; hospitals; doctors; vaccines; bacteria; viruses; genes; cells;
evolution; language; philosophy; ethics; happiness; dreams; kindness; courage; patience; curiosity
"""

_ASKED = """
Explain how {} works.|Explain {} to a child.|What is {}?|What are the main facts about {}?|
Tell me about {}.|Write a short paragraph about {}.|Write a short story about {}.|
Write a poem about {}.|Write an essay about {}.|Give me five tips about {}.|
List three advantages and three disadvantages of {}.|Why is {} important?|
How does {} affect our daily life?|Describe {} in simple words.|Give a brief history of {}.|
What are common mistakes people make with {}?|How can I learn more about {}?|
Write an email to a friend about {}.|Write a dialogue between a teacher and a student about {}.|
What would happen without {}?|Summarize what is known about {} in two sentences.|
Write a blog post about {}.|Compare {} and {}.|What do {} and {} have in common?|
Give me three questions and answers about {}.|Write a product description related to {}.|
Describe step by step how to get started with {}.|Explain the key ideas behind {}.|
What is the most interesting thing about {}?|Write a headline and a short news article about {}.|
Make a bulleted list about {}.|I am writing a report about {}. Can you help me?|
How would you teach {} to a beginner?|What is the relationship between {} and {}?|
Write a letter to the editor about {}.|Explain {} as if I were five years old.|
Suggest a title for a book about {}, and describe what it is about.|Define {} and give an example.|
Write a speech about {}.|What are some examples of {}?
"""

_OTHER = """
Write a Python function that reverses a string.|Write a Python function that adds two numbers.|
Write a Python program that prints the first {n} prime numbers.|What is {n} plus {m}?|
What is {n} times {m}?|If I have {n} apples and buy {m} more, how many do I have?|
Write a function that checks if a number is even.|Write a Python class for a bank account.|
How do I read a file in Python?|Explain what a for loop does, with an example.|
Write an SQL query that selects all users older than {n}.|Hello!|Hi, how are you?|Who are you?|
What can you do?|Thank you!|Can you help me?|What is the capital of France?|
What is the capital of Japan?|Who wrote Romeo and Juliet?|How many days are in a year?|
Plan a day in {n} steps.|Give me a recipe for dinner for {n} people.|Tell me a joke.|
Write a haiku.|Suggest a name for my dog.|What should I do this weekend?|
Write a to-do list for moving to a new house.|Write a thank you note.|
Write a polite email asking for a meeting.|Write a cover letter for a job application.|
Write a function that returns the {n}th Fibonacci number.|How do I sort a list in Python?|
Describe your perfect day.|Write a birthday message for my mother.|Convert {n} miles to kilometers.
"""

_OF_A_TEXT = """
Rewrite the following text in simpler words:|Summarize the following text:|
Summarize this in one sentence:|Rewrite the following text:|Make this text more formal:|
Correct any mistakes in this text:|List the key points of the following text:|
Give this text a title:|Continue the following text:|What is the main idea of this text?|
Rewrite this as a story:|Make the following text shorter:
"""

HELD_OUT = (
    "Explain how a lighthouse works.",
    "What makes a good neighbour?",
    "How do I take care of a leather jacket?",
    "Describe the sound of rain to somebody who never heard it.",
    "Write a short story about a fox who finds a key.",
    "Why do people keep diaries?",
    "What should I pack for a week of camping?",
    "Explain the difference between weather and climate.",
    "Give me ideas for a birthday party for ten children.",
    "How does a thermos keep soup hot?",
    "Write a paragraph about an old wooden ladder.",
    "What is the best way to learn to juggle?",
    "Who invented the telephone, and why did it matter?",
    "How can a small shop find more customers?",
    "Tell me about the history of pencils.",
    "Write a Python function that counts the vowels in a word.",
)
"""Questions by hand, none of them among the others."""

_TAILS: tuple[str, ...] = (
    "",
    "",
    "",
    "",
    " Keep it short.",
    " Be concise.",
    " Use simple language.",
)
_TAILS += (" Give examples.", " Answer in one paragraph.", " Use a numbered list.")


def instructions(choice: random.Random) -> Iterator[str]:
    """Yields instructions for ever."""
    topics, asked, other = _split(_TOPICS, ";"), _split(_ASKED, "|"), _split(_OTHER, "|")
    while True:
        if choice.random() < 0.12:
            numbers = {"n": choice.randint(2, 30), "m": choice.randint(2, 30)}
            yield choice.choice(other).format(**numbers)
        else:
            one, two = choice.sample(topics, 2)
            yield choice.choice(asked).format(one, two) + choice.choice(_TAILS)


def about_a_text(choice: random.Random) -> str:
    """Returns what is asked about a text that follows."""
    return choice.choice(_split(_OF_A_TEXT, "|")) + "\n\n"


def _split(text: str, mark: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(mark)]
