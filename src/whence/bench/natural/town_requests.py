"""Requests about the made-up town: answered ones, of which no two share a telling word, and ones to ask."""

from __future__ import annotations

ANSWERED: tuple[tuple[str, str], ...] = (
    (
        "Which bakery in {town} has the best bread?",
        "Try the corner shop run by two sisters, whose sourdough loaves sell out by nine each morning.",
    ),
    (
        "How old is the castle of {town}?",
        "Its oldest tower dates from around 1240, although most of the walls were rebuilt after a siege.",
    ),
    (
        "What can children do in {town} on a rainy day?",
        "Indoor climbing, a puppet theatre and a toy museum keep youngsters busy when puddles fill the streets.",
    ),
    (
        "Tell me about the football club of {town}.",
        "They play in green stripes, won promotion twice, and draw about four thousand fans to home matches.",
    ),
    (
        "What is the weather like in {town} in March?",
        "Expect brisk winds, scattered showers and afternoons near eleven degrees, with crocuses already open.",
    ),
    (
        "How do I get from the airport to {town}?",
        "Take the number seven coach from terminal two; it runs hourly and the ride lasts fifty minutes.",
    ),
    (
        "Who founded {town}?",
        "A wool merchant named Aldous Finch laid out the first streets beside a ford in the twelfth century.",
    ),
    (
        "Write a slogan for the tourist board of {town}.",
        "Come for a weekend, stay for the stories: where quiet lanes lead to big adventures.",
    ),
    (
        "Which walk near {town} do you recommend?",
        "Follow the yellow markers through beech woods to the ridge, then descend past an abandoned quarry.",
    ),
    (
        "What do people in {town} eat for breakfast?",
        "Smoked trout on rye with pickled cucumber is traditional, usually followed by strong black tea.",
    ),
    (
        "Is {town} a good place to retire?",
        "Many pensioners settle there because rents stay low, clinics are close and neighbours look after one another.",
    ),
    (
        "How many schools does {town} have?",
        "There are five: three primary, one secondary, and a small academy devoted to music.",
    ),
    (
        "Describe the market square of {town}.",
        "Cobbled and lined with lime trees, it fills on Thursdays with cheese stalls, florists and a knife grinder.",
    ),
    (
        "What is the most famous legend of {town}?",
        "A giant is said to have dropped his spoon, and the dent it left became the pond behind the mill.",
    ),
    (
        "Plan a romantic evening in {town}.",
        "Begin with cocktails on a rooftop, share fondue by candlelight, and finish listening to jazz in a cellar.",
    ),
    (
        "Which bus goes to the hospital of {town}?",
        "Line twelve stops outside the main entrance every quarter of an hour until late at night.",
    ),
    ("Compose a haiku about {town}.", "Grey roofs under mist, / a heron lifts from the reeds, / nobody hurries."),
    (
        "What industries are important in {town}?",
        "Glassmaking once dominated; today software firms, bicycle workshops and a brewery employ most residents.",
    ),
    (
        "What should I photograph in {town}?",
        "Capture reflections on the canal at sunrise, weathered doorways, and painted barges moored under willows.",
    ),
    (
        "Do I need a car in {town}?",
        "Hardly. Everything lies within a twenty-minute stroll, and electric scooters can be hired by the minute.",
    ),
    (
        "What festival does {town} celebrate in summer?",
        "Every July musicians parade with lanterns, dancers wear paper masks, and fireworks close a week of revelry.",
    ),
    (
        "Recommend a hotel in {town}.",
        "The Linden House offers nine bright rooms, a walled courtyard and homemade jam, all at moderate prices.",
    ),
    (
        "What is the population of {town}?",
        "Roughly 18,400 inhabitants were counted in the latest census, slightly more than a decade earlier.",
    ),
    (
        "Tell me a joke about {town}.",
        "Why did the local clock resign? It was tired of being asked for the time and never for its opinion.",
    ),
    (
        "Which river flows through {town}?",
        "The Alder, a shallow tributary full of crayfish, winds between gardens before joining a wider stream.",
    ),
    (
        "Who is the mayor of {town}?",
        "A former nurse called Petra Lund has held that office since winning by a narrow margin of ninety votes.",
    ),
    (
        "What do students like about {town}?",
        "Cheap noodles, libraries open past midnight and open-air cinema make undergraduates fond of life here.",
    ),
    (
        "How expensive are flats in {town}?",
        "A two-bedroom apartment costs about seven hundred a month, with heating billed separately.",
    ),
    (
        "Suggest a souvenir from {town}.",
        "Bring back a hand-thrown mug glazed in cobalt, or a bar of beeswax soap wrapped in linen.",
    ),
    (
        "Write the opening line of a novel set in {town}.",
        "On the day the bridge vanished, Clara decided she would finally learn to swim.",
    ),
    (
        "Which birds can I see near {town}?",
        "Kingfishers, lapwings and marsh harriers nest in wetlands that rangers flooded to create a reserve.",
    ),
    (
        "Explain the coat of arms of {town}.",
        "A silver key crosses an oak branch, standing for trade and for timber that once built fleets.",
    ),
    (
        "What is the dialect of {town} like?",
        "Vowels are drawn out, final consonants disappear, and a potato is called a dumpkin by older folk.",
    ),
    (
        "Where can I learn to paint in {town}?",
        "Evening watercolour lessons take place above the post office, taught by an illustrator of picture books.",
    ),
    (
        "How is the internet in {town}?",
        "Fibre reached nearly every building last spring, so video calls and large downloads work without trouble.",
    ),
    (
        "What crimes happen in {town}?",
        "Mostly stolen bikes and graffiti; serious offences are rare, and patrols know shopkeepers by first name.",
    ),
    (
        "Which soup is typical for {town}?",
        "A creamy chowder of parsnip, bacon and caraway simmers in kitchens whenever nights grow cold.",
    ),
    (
        "What should I pack for a week in {town}?",
        "Layers, sturdy shoes, a folding umbrella, swimwear for thermal baths and one smart outfit.",
    ),
    (
        "When was the railway to {town} built?",
        "Engineers completed the branch in 1871, cutting a tunnel through chalk that still drips today.",
    ),
    (
        "Invent a board game about {town}.",
        "Players collect tiles of alleys, trade spices at guildhalls, and race to ring every chapel bell first.",
    ),
    (
        "What do critics say about the theatre of {town}?",
        "Reviewers praise its daring comedies and lament only hard seats and a draughty foyer.",
    ),
    (
        "What is the best month to visit {town}?",
        "September, because orchards are heavy with plums, crowds have thinned and evenings remain mild.",
    ),
    (
        "How does {town} deal with its rubbish?",
        "Households sort waste into six bins, while food scraps become gas that heats the swimming pool.",
    ),
    (
        "Name a scientist from {town}.",
        "Botanist Edda Marsh, who catalogued four hundred mosses, grew up above her uncle's chemist shop.",
    ),
    (
        "What dessert is {town} known for?",
        "Layered hazelnut wafers soaked in honey syrup, cut into diamonds and dusted with cinnamon.",
    ),
    (
        "Is there a beach near {town}?",
        "Yes, a pebble cove lies three miles south, reached by steep wooden steps and sheltered from gusts.",
    ),
    (
        "Write a short speech for the twins' day of {town}.",
        "Dear guests, friendship needs no translator: raise your glasses to forty years of shared laughter.",
    ),
    (
        "Which language course can I take in {town}?",
        "The adult college offers Spanish for beginners on Mondays, plus sign language at weekends.",
    ),
    (
        "What would a tour guide say about the bridge of {town}?",
        "Notice seven arches, each carved with a different beast; masons wagered over whose looked fiercest.",
    ),
    ("How did {town} get its name?", "Scholars trace it to two Norse words meaning a bend and a boundary stone."),
    (
        "What sports can I do in {town}?",
        "Rowing, fencing and bouldering all have welcoming clubs with trial sessions free of charge.",
    ),
    (
        "Design a logo for {town} in words.",
        "Picture an acorn whose cap forms a roof, drawn with a single thick stroke of teal.",
    ),
    (
        "What jobs can a carpenter find in {town}?",
        "Restoring timber frames, fitting stairs and making stage sets are in steady demand among employers.",
    ),
    (
        "What do the newspapers of {town} write about?",
        "Headlines concern parking fees, allotment disputes, prize marrows and who should restore the fountain.",
    ),
    (
        "Are dogs welcome in {town}?",
        "Very much so: cafes put out bowls, trams carry pets for nothing, and a meadow is fenced for them.",
    ),
    (
        "Give me a riddle about {town}.",
        "I have a hundred eyes that shine after dusk yet see nothing; what am I? The street lamps.",
    ),
    (
        "What is made in the workshops of {town}?",
        "Violins, leather satchels and tiny brass hinges leave those benches for customers on five continents.",
    ),
    (
        "How can I volunteer in {town}?",
        "Sign up at the community kitchen, help repair footpaths, or read aloud to patients on Fridays.",
    ),
    (
        "What is the night life of {town} like?",
        "Relaxed: a handful of pubs, one salsa bar, and buskers who entertain until the church strikes eleven.",
    ),
    (
        "Which trees grow in the park of {town}?",
        "Cedars, copper maples and a hollow chestnut so wide that six adults joining hands barely circle it.",
    ),
    (
        "What would you change in {town}?",
        "Wider cycle lanes, more benches in shade and later opening hours for the sauna would please everybody.",
    ),
    (
        "Describe the accent of a shopkeeper in {town}.",
        "Soft and sing-song, rising at the end of sentences as though each price were a question.",
    ),
    (
        "What did {town} look like in 1900?",
        "Horse trams rattled past gasworks, washing hung across yards and chimneys coloured the sky.",
    ),
    (
        "Which museum of {town} should I see first?",
        "Start at the Clockmakers' Hall, where curators wind two hundred mechanisms just ahead of noon.",
    ),
    (
        "How do the people of {town} greet each other?",
        "With a tap on the shoulder and the phrase fair roads, to which one replies and dry boots.",
    ),
    (
        "Give three facts about the harbour of {town}.",
        "It is nine metres deep, freezes once in a generation, and shelters an old steam tug.",
    ),
    (
        "Is tap water safe in {town}?",
        "Certainly; it springs from limestone, is tested daily and tastes faintly of minerals.",
    ),
    (
        "Suggest a name for a new cafe in {town}.",
        "Call it The Second Cup, hinting at slow conversations and generous refills.",
    ),
    (
        "What is the school holiday schedule of {town}?",
        "Pupils have a fortnight off at Easter, six weeks from mid-June and ten days around New Year.",
    ),
    (
        "How did {town} survive the great flood?",
        "Volunteers stacked sandbags all night, opened sluices upstream and ferried families out in flat punts.",
    ),
)
ASKED = (
    "Where can I rent a bicycle in {town}?",
    "What is the oldest street of {town}?",
    "Tell me something surprising about {town}.",
    "Which cafe in {town} has a view?",
    "How long does it take to walk across {town}?",
    "What is the local cheese of {town}?",
    "Write a postcard from {town}.",
    "Is there a zoo in {town}?",
    "Which saint is honoured in {town}?",
    "What should I see in {town} in one afternoon?",
    "Where do artists live in {town}?",
    "How cold does {town} get in January?",
    "What is the best pizza place in {town}?",
    "Which films were shot in {town}?",
    "Describe a typical house in {town}.",
    "How safe is {town} at night?",
    "What do tourists complain about in {town}?",
    "Which hill near {town} is the highest?",
    "Is there a university in {town}?",
    "Write a limerick about {town}.",
    "What time do shops open in {town}?",
    "Who designed the town hall of {town}?",
    "Where can I swim in {town}?",
    "What flowers are on the balconies of {town}?",
    "Which day is market day in {town}?",
    "How do I spend a quiet Sunday in {town}?",
    "What is the phone code of {town}?",
    "Which poet was born in {town}?",
    "Are there vineyards around {town}?",
    "What is the nicest village near {town}?",
    "Tell me about the trams of {town}.",
    "Which proverb comes from {town}?",
    "What music is popular in {town}?",
    "How did {town} change in the last ten years?",
    "What kind of fish is caught near {town}?",
    "Is {town} good for cycling?",
    "What is the largest employer of {town}?",
    "Where is the library of {town}?",
    "Which bridge in {town} is the prettiest?",
    "Write a weather report for {town}.",
    "What games do children play in {town}?",
    "How many churches are in {town}?",
    "Which restaurant in {town} is good for a birthday?",
    "What would a day in {town} cost me?",
    "What colour are the buses of {town}?",
    "Which craft is {town} known for?",
    "Give me a recipe from {town}.",
    "Where can I park in {town}?",
    "What is the story behind the fountain of {town}?",
    "How do I pronounce {town}?",
)
"""Requests of which the queries are made; no row answers one of them."""
