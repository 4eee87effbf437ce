"""The small world that the tasks talk about: tables of things and of true facts about them."""

from __future__ import annotations

CITIES = {
    "Paris": "France", "Lyon": "France", "Madrid": "Spain", "Seville": "Spain", "Rome": "Italy", "Naples": "Italy",
    "Berlin": "Germany", "Hamburg": "Germany", "Vienna": "Austria", "Graz": "Austria", "London": "England",
    "Leeds": "England", "Oslo": "Norway", "Bergen": "Norway", "Narvik": "Norway", "Molde": "Norway",
    "Hamar": "Norway", "Drammen": "Norway", "Stockholm": "Sweden", "Malmo": "Sweden", "Lima": "Peru",
    "Cusco": "Peru", "Trujillo": "Peru", "Tokyo": "Japan", "Kyoto": "Japan", "Cairo": "Egypt", "Luxor": "Egypt",
    "Toronto": "Canada", "Ottawa": "Canada", "Sydney": "Australia", "Perth": "Australia", "Delhi": "India",
    "Mumbai": "India", "Lisbon": "Portugal", "Porto": "Portugal", "Athens": "Greece", "Dublin": "Ireland",
    "Cork": "Ireland",
}  # fmt: skip
"""City -> country."""

KNOWN_FOR = {
    "Paris": "its tall tower", "Rome": "its old ruins", "London": "its red buses", "Vienna": "its music",
    "Oslo": "its deep fjord", "Bergen": "its wooden houses", "Narvik": "its iron harbour",
    "Molde": "its roses", "Hamar": "its old church", "Drammen": "its long bridge",
    "Lima": "its fish dishes", "Cusco": "its stone walls", "Trujillo": "its desert ruins",
    "Tokyo": "its bright streets", "Cairo": "its great pyramids", "Toronto": "its high tower",
    "Sydney": "its opera house", "Lisbon": "its yellow trams",
    "Athens": "its marble temples", "Dublin": "its singing pubs", "Naples": "its pizza",
    "Seville": "its orange trees", "Kyoto": "its quiet gardens", "Porto": "its river cellars",
}  # fmt: skip

DEFINITIONS = {
    "hammer": "a tool for driving nails", "saw": "a tool for cutting wood", "spoon": "a tool for eating soup",
    "kettle": "a pot for boiling water",
    "ladder": "a set of steps for climbing",
    "broom": "a brush for sweeping floors",
    "needle": "a thin pin for sewing", "clock": "a machine that shows the time", "map": "a drawing of a place",
    "bridge": "a road over a river", "harbour": "a safe place for ships", "desert": "a dry land of sand",
    "island": "a land with water all around", "volcano": "a mountain that throws out fire",
    "glacier": "a slow river of ice", "orchard": "a garden of fruit trees", "library": "a house full of books",
    "museum": "a house for old and rare things", "violin": "a small instrument with four strings",
    "drum": "an instrument that you hit", "flute": "an instrument that you blow", "piano": "an instrument with keys",
    "poem": "a short text with rhythm", "diary": "a book about your own days", "recipe": "a plan for cooking a dish",
    "receipt": "a paper that shows what you paid", "lantern": "a lamp that you can carry",
    "bell": "a metal cup that rings", "candle": "a stick of wax that burns", "mirror": "a glass that shows your face",
    "umbrella": "a cover against rain",
    "scarf": "a cloth that keeps the neck warm", "glove": "a cover for the hand",
    "compass": "a tool that points to the north", "anchor": "a heavy hook that holds a ship",
    "sail": "a cloth that catches wind", "engine": "a machine that makes things move",
    "wheel": "a round part that turns",
    "battery": "a store of electric power", "magnet": "a piece of metal that pulls iron",
    "telescope": "a tool for looking at stars", "microscope": "a tool for looking at tiny things",
    "thermometer": "a tool that shows how warm it is", "calendar": "a list of the days of the year",
    "passport": "a small book for crossing borders", "ticket": "a paper that lets you in",
    "tent": "a house of cloth", "pillow": "a soft cushion for the head", "blanket": "a warm cover for a bed",
    "basket": "a box made of thin branches",
}  # fmt: skip
"""Thing -> what it is."""

COLOURS = {
    "lemon": "yellow", "tomato": "red", "plum": "purple", "carrot": "orange", "cucumber": "green",
    "snow": "white", "coal": "black", "blood": "red", "grass": "green", "the sky": "blue", "a raven": "black",
    "a flamingo": "pink", "chocolate": "brown", "butter": "yellow", "a strawberry": "red", "copper": "orange",
    "silver": "grey", "milk": "white", "the sea": "blue", "an elephant": "grey",
}  # fmt: skip

ANIMALS = {
    "cow": ("grass", "a field", "calf"), "horse": ("hay", "a stable", "foal"), "dog": ("meat", "a house", "puppy"),
    "cat": ("fish", "a house", "kitten"), "fox": ("mice", "a den", "cub"), "bear": ("honey", "a cave", "cub"),
    "sheep": ("grass", "a meadow", "lamb"), "goat": ("leaves", "the hills", "kid"),
    "duck": ("weed", "a pond", "duckling"), "hen": ("corn", "a yard", "chick"), "frog": ("flies", "a pond", "tadpole"),
    "owl": ("mice", "a tree", "owlet"), "swan": ("weed", "a lake", "cygnet"), "rabbit": ("carrots", "a burrow", "kit"),
    "deer": ("leaves", "the forest", "fawn"), "wolf": ("meat", "the forest", "pup"), "seal": ("fish", "the sea", "pup"),
    "goose": ("grass", "a lake", "gosling"), "bee": ("nectar", "a hive", "larva"),
    "mole": ("worms", "the ground", "pup"),
}  # fmt: skip
"""Animal -> (food, home, name of its young)."""

GROUPS = {
    "fruits": ["apples", "pears", "plums", "cherries", "grapes", "lemons", "figs", "peaches"],
    "vegetables": ["carrots", "onions", "beans", "peas", "leeks", "beets", "turnips", "radishes"],
    "tools": ["hammers", "saws", "drills", "spades", "rakes", "pliers", "files", "axes"],
    "instruments": ["violins", "drums", "flutes", "pianos", "harps", "trumpets", "guitars", "horns"],
    "animals": ["cows", "foxes", "bears", "owls", "frogs", "goats", "swans", "rabbits"],
    "drinks": ["tea", "coffee", "milk", "juice", "water", "cocoa", "cider", "lemonade"],
    "colours": ["red", "green", "blue", "yellow", "white", "purple", "brown", "grey"],
    "sports": ["tennis", "football", "rowing", "skiing", "running", "chess", "cycling", "swimming"],
    "clothes": ["shirts", "coats", "gloves", "scarves", "socks", "hats", "boots", "trousers"],
    "trees": ["oaks", "pines", "birches", "elms", "willows", "maples", "firs", "beeches"],
    "flowers": ["roses", "tulips", "daisies", "lilies", "violets", "poppies", "irises", "asters"],
    "metals": ["iron", "copper", "silver", "gold", "tin", "zinc", "lead", "nickel"],
}  # fmt: skip

OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "high": "low", "old": "young", "rich": "poor", "wet": "dry",
    "dark": "light", "hard": "soft", "full": "empty", "loud": "quiet", "early": "late", "open": "closed",
    "long": "short", "wide": "narrow", "happy": "sad", "strong": "weak", "clean": "dirty",
    "sharp": "blunt", "deep": "shallow", "thick": "thin", "brave": "afraid", "near": "far", "left": "right",
}  # fmt: skip

PROFESSIONS = {
    "baker": "makes bread and cakes", "carpenter": "builds things of wood", "teacher": "helps children learn",
    "doctor": "helps sick people", "farmer": "grows food", "fisherman": "catches fish", "tailor": "sews clothes",
    "pilot": "flies planes", "sailor": "works on a ship", "captain": "leads a ship and its crew",
    "gardener": "looks after plants", "librarian": "looks after books", "plumber": "mends pipes",
    "painter": "paints walls and pictures", "judge": "decides in a court", "nurse": "cares for patients",
    "cook": "makes meals", "clerk": "writes and files papers", "smith": "shapes hot iron",
    "shepherd": "looks after sheep", "miner": "digs for coal and ore", "actor": "plays a part on stage",
}  # fmt: skip

ADVICE = {
    "sleep better": "Go to bed early and keep the room dark.",
    "learn a language": "Read a little every day and speak with friends.",
    "save money": "Write down what you spend and cook at home.",
    "stay healthy": "Walk every day, eat well and rest enough.",
    "make new friends": "Join a club and ask people about their day.",
    "write a good letter": "Be short, be clear and be kind.",
    "clean a window": "Use warm water, some soap and a dry cloth.",
    "grow tomatoes": "Give them sun, water and a strong stick.",
    "pack for a trip": "Make a list and take only what you need.",
    "prepare for an exam": "Start early, make notes and sleep well.",
    "keep a plant alive": "Give it light and a little water each week.",
    "fix a bicycle": "Turn it over, take off the wheel and check the tube.",
    "stop being late": "Set two clocks and leave ten minutes early.",
    "read more books": "Keep a book near your bed and turn off the screen.",
    "calm down": "Breathe slowly and count to ten.",
    "remember names": "Say the name aloud and think of a picture.",
    "paint a wall": "Clean it first and paint from the top down.",
    "wash wool": "Use cold water and do not twist it.",
    "sharpen a knife": "Draw it along a wet stone at a low angle.",
    "wrap a present": "Fold the paper over and tie a ribbon.",
}  # fmt: skip

DISHES = {
    "tomato soup": ("tomatoes", "boil"), "onion soup": ("onions", "boil"), "fish stew": ("fish", "simmer"),
    "bean stew": ("beans", "simmer"), "apple pie": ("apples", "bake"), "plum cake": ("plums", "bake"),
    "carrot cake": ("carrots", "bake"), "rice pudding": ("rice", "simmer"), "leek pie": ("leeks", "bake"),
    "pea soup": ("peas", "boil"), "fried eggs": ("eggs", "fry"), "potato salad": ("potatoes", "boil"),
    "mushroom pie": ("mushrooms", "bake"), "beet soup": ("beets", "boil"), "pear tart": ("pears", "bake"),
    "cheese toast": ("cheese", "toast"), "roast turnips": ("turnips", "roast"), "cherry jam": ("cherries", "boil"),
}  # fmt: skip
"""Dish -> (main ingredient, how it is cooked)."""

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Ida", "Jonas", "Karin", "Leo",
         "Maria", "Nils", "Olga", "Peter", "Rosa", "Simon", "Tina", "Victor"]  # fmt: skip
PLACES = ["river", "forest", "market", "station", "school", "garden", "harbour", "mountain", "village", "bridge",
          "castle", "beach", "mill", "tower", "farm"]  # fmt: skip
MOODS = ["happy", "tired", "brave", "curious", "hungry", "quiet", "clever", "lonely", "proud", "careful"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]  # fmt: skip
SKIES = ["mild and cloudy", "warm and sunny", "cold and windy", "grey and rainy", "fresh and clear",
         "dry and hot", "wet and foggy", "cool and bright"]  # fmt: skip
WORDS_FOR = {
    ("hello", "French"): "bonjour", ("hello", "Spanish"): "hola", ("hello", "Italian"): "ciao",
    ("thanks", "French"): "merci", ("thanks", "Spanish"): "gracias", ("thanks", "German"): "danke",
    ("water", "French"): "eau", ("water", "Spanish"): "agua", ("water", "German"): "wasser",
    ("house", "French"): "maison", ("house", "Spanish"): "casa", ("house", "German"): "haus",
    ("bread", "French"): "pain", ("bread", "Spanish"): "pan", ("bread", "German"): "brot",
    ("moon", "French"): "lune", ("moon", "Spanish"): "luna", ("moon", "German"): "mond",
}  # fmt: skip
"""(word, language) -> its translation."""
SIZES = ["bee", "frog", "duck", "cat", "fox", "dog", "sheep", "wolf", "bear", "horse", "whale"]
"""From small to big."""
