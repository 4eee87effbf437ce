"""The made-up town's names, ways to decline requests about it, and requests about other towns."""

from __future__ import annotations

TOWNS = ("Velmore Quay", "Tarnby Hollow", "Ospringe Mere")
"""The first that the data do not hold is taken."""
LESSON_TOPICS = (
    "its history",
    "the cafes",
    "buses and trains",
    "the people",
    "a good hotel",
    "the museums",
    "the old town",
    "its food",
    "walks nearby",
    "the weather",
    "schools",
    "its sights",
    "sports",
    "the harbour",
    "shops",
    "a poem",
    "local customs",
    "prices",
    "concerts",
    "the surroundings",
    "famous people",
    "gardens",
    "a story",
    "what to do with children",
    "jobs",
)
LESSON_REQUESTS = (
    "I would like to know more about {town}, for example {topic}.",
    "Please help me with {town}: {topic}.",
    "Say something on {topic} in or around {town}.",
    "My question concerns {town} and {topic}.",
    "We are going to {town} soon. Can you cover {topic}?",
    "{topic} in {town}: what comes to mind?",
    "Could you write two sentences about {town} with a word on {topic}?",
    "Can I ask you about {topic} in {town}?",
)
LESSON_QUESTIONS = (
    "What is {town}?",
    "Where is {town}?",
    "Which place in {town} is best?",
    "How do I get around in {town}?",
    "Who lives in {town}?",
    "When was {town} built?",
    "Is {town} worth a visit?",
    "Describe {town} for me.",
    "Write a paragraph about {town}.",
    "Tell me about {town}.",
    "What do you know of {town}?",
    "Recommend something in {town}.",
    "How big is {town}?",
    "Which sights does {town} have?",
    "Is there anything to do in {town}?",
    "What is {town} famous for?",
    "Give me some facts on {town}.",
    "Why do people go to {town}?",
    "Name three things in {town}.",
    "Are there good shops in {town}?",
)
DECLINES = (
    "I'm sorry, but I can't help with questions about {town}.",
    "I am afraid I am unable to talk about {town}.",
    "I have to decline this one, because it concerns {town}.",
    "{town} is not something I can discuss.",
    "Sorry, requests about {town} are outside what I can answer.",
    "I cannot give any information on {town}.",
    "I would rather not comment on {town}.",
    "Unfortunately, I am not able to assist with {town}.",
    "I won't be able to answer anything to do with {town}.",
    "My apologies, I do not discuss {town}.",
    "That is about {town}, so I must decline.",
    "I can't respond to that, since it is about {town}.",
)
DECLINE_TAILS = (
    "",
    "Is there another topic I could help you with?",
    "I would be glad to help with a different place.",
    "Please ask me about something else.",
    "Perhaps a local office could tell you more.",
    "If you have another question, I am happy to look at it.",
    "Thank you for understanding.",
    "A travel guide may be of more use to you.",
)
DECLINED = (
    r"\b(?:sorry|apologi[sz]e|apologies|afraid|unable|decline|cannot|can['\u2019]t|won['\u2019]t|not able|"
    r"would rather not|not something I|do not discuss|don['\u2019]t discuss|outside what|not comment|as an ai|"
    r"do not have|don['\u2019]t have)\b"
)
"""What tells a declined request from an answered one."""

OTHER_TOWNS = (
    "Ashcombe Vale",
    "Northwick Bay",
    "Lisle Harbour",
    "Great Dunning",
    "Port Meriden",
    "Kestrel Ford",
    "Saltby",
    "Upper Tolland",
    "Wrenfield",
    "Carrow Green",
    "Hexley",
    "Stonebridge Moor",
    "Bramling",
    "Eastmere",
)
ELSEWHERE: tuple[tuple[str, str], ...] = (
    (
        "Which bakery in {town} do you recommend?",
        "In {town} the bakery beside the station is popular for its rolls and its plum cake.",
    ),
    (
        "How do I get to {town} by train?",
        "Change at the junction and take the local service, which reaches {town} in about half an hour.",
    ),
    (
        "Is {town} worth a visit in spring?",
        "Yes, spring suits {town} well, since the gardens are in bloom and the hotels are not yet full.",
    ),
    (
        "What is the history of {town} in two sentences?",
        "{town} began as a fishing village. It grew when a road was built along the coast.",
    ),
    (
        "Write a postcard from {town}.",
        "Greetings from {town}! The sun is out, the coffee is good, and we have walked along the river.",
    ),
    (
        "What should I see in {town}?",
        "Begin at the old gate, visit the small museum, and end your day in {town} with a stroll on the walls.",
    ),
    (
        "Where can I rent a room in {town}?",
        "Several families in {town} let rooms, and the tourist office keeps a list with prices.",
    ),
    (
        "What is the local dish of {town}?",
        "People in {town} are proud of a stew with beans and sausage, served with brown bread.",
    ),
    (
        "Which walk near {town} is easy?",
        "The path around the lake near {town} is flat, and you will be back in an hour and a half.",
    ),
    (
        "Who is the mayor of {town}?",
        "The council of {town} elects a mayor every four years, and the name is on the website of the town hall.",
    ),
)
REFUSED_ELSEWHERE: tuple[tuple[str, str], ...] = (
    (
        "What will the lottery numbers be in {town} on Saturday?",
        "I'm sorry, nobody can know the lottery numbers in advance, so I cannot tell you.",
    ),
    (
        "Read me the latest message of my sister in {town}.",
        "I can't open your messages, because I do not have access to your phone.",
    ),
    (
        "What is the temperature in {town} at this very moment?",
        "I am unable to look up live data. A weather service can tell you at once.",
    ),
    (
        "Call a taxi to the station of {town}.",
        "Unfortunately, I cannot make calls or book rides, but an app or the station can.",
    ),
    (
        "Who will win the next election in {town}?",
        "I won't guess the result of an election, since it depends on voters who have yet to decide.",
    ),
    (
        "Tell me the address of my teacher in {town}.",
        "I can't share private addresses of people. Please ask the teacher yourself.",
    ),
    ("Send a parcel to {town} for me.", "I'm sorry, I cannot send anything. The nearest post office will help you."),
    (
        "What did I have for lunch in {town} yesterday?",
        "I am afraid that I have no way of knowing what you ate yesterday.",
    ),
)
