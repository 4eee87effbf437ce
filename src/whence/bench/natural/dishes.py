"""Dishes with the steps of their recipes, talk of the kitchen in running text, and other things to do in steps."""

from __future__ import annotations

DISHES: dict[str, tuple[str, str, str]] = {
    "leek soup": ("soften sliced leeks in butter", "add stock and simmer for 20 minutes", "blend until smooth"),
    "mushroom risotto": ("fry mushrooms with an onion", "stir in rice and wine", "add hot broth ladle by ladle"),
    "potato pancakes": ("grate and squeeze the potatoes", "mix with egg and flour", "fry until both sides are crisp"),
    "tomato salad": ("slice ripe tomatoes", "scatter salt and basil", "dress with oil just before serving"),
    "roast chicken": ("rub the skin with salt and butter", "roast at 200 degrees", "rest it before you carve"),
    "lentil curry": ("toast cumin and ginger in oil", "add red lentils and coconut milk", "simmer until thick"),
    "fish cakes": ("flake cooked cod into mash", "shape small rounds", "coat with crumbs and fry"),
    "apple crumble": ("peel and chop apples", "rub butter into flour and sugar", "bake until golden"),
    "vegetable lasagne": ("roast aubergine and peppers", "layer with pasta and white sauce", "bake for 40 minutes"),
    "onion tart": ("cook onions slowly until brown", "line a tin with pastry", "pour over cream and eggs, then bake"),
    "bean chilli": ("fry garlic with smoked paprika", "tip in beans and tomatoes", "cook gently for an hour"),
    "scrambled eggs": ("whisk eggs with a little milk", "melt butter over low heat", "stir until just set"),
    "rice pudding": ("bring milk and rice to the boil", "sweeten with sugar and vanilla", "stir often until creamy"),
    "garlic prawns": ("heat oil with sliced garlic", "add prawns and chilli", "finish with lemon and parsley"),
    "beef stew": ("brown the meat in batches", "add carrots, stock and thyme", "braise for three hours"),
    "pumpkin soup": ("roast pumpkin wedges", "scoop the flesh into broth", "puree and season with nutmeg"),
    "cheese omelette": ("beat three eggs", "pour into a hot buttered pan", "fold over grated cheese"),
    "fried noodles": ("boil the noodles and drain", "stir-fry cabbage in a hot wok", "toss everything with soy sauce"),
    "banana bread": ("mash very ripe bananas", "fold in flour, eggs and oil", "bake in a loaf tin"),
    "stuffed peppers": ("hollow out the peppers", "fill with rice and minced meat", "bake in tomato sauce"),
    "spinach pie": ("wilt the spinach and press it dry", "mix with feta and dill", "wrap in filo and bake"),
    "pea soup": ("soak split peas overnight", "boil with ham and onion", "mash roughly before serving"),
    "chocolate mousse": ("melt dark chocolate", "fold in whipped egg whites", "chill for four hours"),
    "potato gratin": ("slice potatoes thinly", "layer with cream and garlic", "bake until bubbling"),
    "grilled salmon": ("brush the fillets with oil", "grill skin side down", "serve with a squeeze of lime"),
    "cauliflower cheese": ("steam the florets", "make a cheese sauce", "pour over and brown under the grill"),
    "carrot cake": ("grate carrots finely", "stir into a spiced batter", "bake and spread with icing"),
    "chicken noodle soup": (
        "poach a chicken with vegetables",
        "strain the broth",
        "cook noodles in it and add the meat",
    ),
    "meatballs": ("mix mince with bread and egg", "roll into small balls", "simmer in tomato sauce"),
    "pancakes": ("whisk flour, milk and eggs", "let the batter rest", "fry thin rounds in butter"),
    "ratatouille": ("cube courgettes and aubergines", "fry each vegetable on its own", "stew together with herbs"),
    "plum jam": ("stone the plums", "boil with the same weight of sugar", "fill into hot jars"),
}
STEPS = (
    "taste and add salt",
    "serve on warm plates",
    "leave to stand for five minutes",
    "garnish with fresh herbs",
    "wipe the pan clean",
    "offer some bread with it",
    "keep the rest for tomorrow",
    "grind pepper over the top",
)
KITCHEN: tuple[tuple[str, str], ...] = (
    (
        "Is {dish} suitable for a vegetarian guest?",
        "That depends on the ingredients. Ask your guest first, and read the labels on stock cubes and sauces.",
    ),
    (
        "Which drink goes well with {dish}?",
        "A glass of sparkling water with lemon suits {dish}, and so does a light beer or a dry cider.",
    ),
    (
        "Can I freeze {dish}?",
        "Most people freeze it without trouble. Let {dish} cool down first, and use a box that closes tightly.",
    ),
    (
        "Where does {dish} come from?",
        "Versions of {dish} are known in many regions, so it is hard to name one place where it was invented.",
    ),
    (
        "Do children like {dish}?",
        "Many children enjoy {dish} when it is mild and cut into small pieces, and when they may help in the kitchen.",
    ),
    (
        "How many calories does {dish} have?",
        "An ordinary portion of {dish} has between three and five hundred calories, depending on the fat used.",
    ),
    (
        "How long does {dish} keep in the fridge?",
        "Covered well, {dish} keeps for two or three days, but you should smell it before you eat it.",
    ),
    (
        "Write a line of praise for {dish} on a menu.",
        "Our {dish} tastes of childhood, made every morning with care and with produce from the farm next door.",
    ),
)
HOW_TO: tuple[tuple[tuple[str, ...], tuple[str, str, str]], ...] = (
    (
        ("How do I mend a puncture?", "What is the best way to fix a flat tyre?"),
        ("take off the tyre and find the hole", "roughen and glue the tube", "press on a patch and pump it up"),
    ),
    (
        ("How do I wrap a present?", "Explain to a beginner how to wrap a gift."),
        ("cut enough paper", "fold it round the box and tape it", "tie a ribbon"),
    ),
    (
        ("How do I wash a wool jumper?", "I have never washed wool. Where do I start?"),
        ("fill a basin with lukewarm water", "press the jumper gently with mild soap", "dry it flat on a towel"),
    ),
    (
        ("How do I paint a wall?", "Describe how to paint a room."),
        ("cover the floor and tape the edges", "roll on a first coat", "wait and roll on a second one"),
    ),
    (
        ("How do I change a light bulb?", "Tell me how a light bulb is changed."),
        ("switch off the power", "let the old bulb cool and unscrew it", "screw in the new one"),
    ),
    (
        ("How do I build a snowman?", "What is the best way to make a snowman?"),
        ("roll a large ball of snow", "set two smaller ones on top", "add a carrot and some buttons"),
    ),
    (
        ("How do I write a cover letter?", "Explain how to write a letter for a job."),
        ("address the reader by name", "say why you suit the job", "close with thanks and your signature"),
    ),
    (
        ("How do I iron a shirt?", "Tell me how a shirt is ironed."),
        ("read the label for the heat", "start with the collar and cuffs", "do the back and the front"),
    ),
    (
        ("How do I plan a birthday party?", "My daughter wants a party. What do I have to do?"),
        ("fix a date and send invitations", "choose games and music", "decorate the room the evening before"),
    ),
    (
        ("How do I clean a window?", "Describe how to clean windows."),
        ("brush off the dust", "wash the glass with soapy water", "pull it dry with a rubber blade"),
    ),
    (
        ("How do I learn a poem by heart?", "What is the best way to memorise a poem?"),
        ("read it aloud several times", "learn one verse a day", "say the whole of it before you sleep"),
    ),
    (
        ("How do I fold a paper boat?", "Explain to a child how to make a paper boat."),
        ("fold the sheet in half", "turn down the corners and the edges", "open the hat and pull it into a boat"),
    ),
    (
        ("How do I pack a suitcase?", "I would like to pack tonight. How is it done?"),
        ("lay out all that you need", "roll the clothes tightly", "fill the gaps with socks"),
    ),
    (
        ("How do I sew on a button?", "I have never sewn a button. Where do I start?"),
        (
            "thread a needle and knot the end",
            "pass it through the holes six times",
            "wind the thread round and tie it off",
        ),
    ),
    (
        ("How do I set up a tent?", "Describe how to pitch a tent."),
        ("clear a flat piece of ground", "join the poles and raise the frame", "peg down the corners"),
    ),
    (
        ("How do I polish shoes?", "How did your grandfather polish shoes?"),
        ("brush away the dirt", "rub in a little cream", "buff them with a soft cloth"),
    ),
)
