"""The words that name COCO's 80 object categories in captions, for CHAIR (`captioner.metrics.chair`).

The table is captioner's own. It is not the list of Rohrbach et al. 2018, so a score differs from theirs where the two
tables do; docs/metrics.md says how often. Its rules:

1. A category is named by its name and the plural.
2. It is also named by everyday words for the same thing, for a kind of it, or for a person by what one does
   (`EVERYDAY_NAMES`, `MORE_NAMES`).
3. A word that often means something else is left out: "orange" (the color), "glass" (the material), "computer" (not
   always a laptop), "desk" (not always a dining table), "cook" and "ski" (what people do).
4. The longest phrase wins: a "hot dog" is no dog, a "teddy bear" no bear, a "baseball bat" no second bat.
5. A phrase that has an object's word and is another thing names nothing (`OTHER_THINGS`): "train tracks", "bus stop",
   "toilet paper", "baseball field".
"""

from __future__ import annotations

from captioner.text.object_words import Phrase, phrases, plural

TABLE_VERSION = 1
"""Changes whenever a score can change."""

_CATEGORIES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,"
    "wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,"
    "chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,"
    "toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
CATEGORIES = tuple(_CATEGORIES.split(","))
"""COCO's object categories, in the order of their ids."""

EVERYDAY_NAMES: dict[str, str] = {
    "person": "man men woman women boy boys girl girls child children kid kids people guy guys lady ladies "
    "player players skier skiers surfer surfers skateboarder skateboarders snowboarder snowboarders",
    "bicycle": "bike bikes",
    "motorcycle": "motorbike motorbikes",
    "airplane": "plane planes jet jets",
    "boat": "ship ships sailboat sailboats",
    "traffic light": "stoplight stoplights",
    "fire hydrant": "hydrant hydrants",
    "cat": "kitten kittens",
    "dog": "puppy puppies",
    "sheep": "sheep lamb lambs",
    "cow": "cattle",
    "handbag": "purse purses",
    "suitcase": "luggage",
    "sports ball": "ball balls",
    "baseball bat": "bat bats",
    "baseball glove": "glove gloves mitt",
    "tennis racket": "racket rackets racquet racquets",
    "cup": "mug mugs",
    "knife": "knives",
    "hot dog": "hotdog hotdogs",
    "donut": "doughnut doughnuts",
    "couch": "sofa sofas",
    "potted plant": "plant plants",
    "dining table": "table tables",
    "tv": "television televisions",
    "mouse": "mice",
    "cell phone": "phone phones cellphone cellphones",
    "refrigerator": "fridge fridges",
    "teddy bear": "teddy",
}
"""Category → single words that name it, which the grounding score uses as well."""

MORE_NAMES: dict[str, str] = {
    "person": "adult,adults,baby,babies,toddler,toddlers,infant,infants,teenager,teenagers,teen,teens,youth,"
    "gentleman,gentlemen,male,males,female,females,couple,couples,family,families,crowd,crowds,someone,pedestrian,"
    "pedestrians,rider,riders,cyclist,cyclists,bicyclist,bicyclists,biker,bikers,motorcyclist,motorcyclists,driver,"
    "drivers,passenger,passengers,batter,batters,catcher,catchers,pitcher,pitchers,umpire,umpires,referee,referees,"
    "skater,skaters,swimmer,swimmers,athlete,athletes,worker,workers,policeman,policemen,policewoman,officer,"
    "officers,fireman,firemen,firefighter,firefighters,soldier,soldiers,chef,chefs,waiter,waitress,student,students,"
    "doctor,doctors,bride,groom,tourist,tourists,mother,mothers,father,fathers,mom,dad,son,daughter,brother,brothers,"
    "sister,sisters,husband,wife,grandmother,grandfather,friend,friends,cowboy,cowboys,fisherman,fishermen,"
    "businessman,businessmen,spectator,spectators,jockey,jockeys",
    "bicycle": "tricycle,tricycles,mountain bike,mountain bikes",
    "motorcycle": "motor bike,motor bikes,motor cycle,motor cycles,dirt bike,dirt bikes,scooter,scooters,moped,"
    "mopeds,vespa",
    "car": "automobile,automobiles,taxi,taxis,cab,cabs,suv,suvs,sedan,sedans,minivan,minivans,van,vans,jeep,jeeps,"
    "convertible,police car,police cars",
    "airplane": "aeroplane,aeroplanes,air plane,air planes,aircraft,airliner,airliners,jetliner,jetliners,jumbo jet,"
    "biplane,biplanes,fighter jet,fighter jets",
    "bus": "busses,double decker,double deckers,school bus,school buses",
    "train": "locomotive,locomotives,subway train,train car,train cars,passenger train,passenger trains,steam engine,"
    "train engine,train engines,tram,trams,trolley,trolleys",
    "truck": "pickup,pickups,pick up truck,pick up trucks,pickup truck,pickup trucks,fire truck,fire trucks,"
    "firetruck,firetrucks,semi truck,semi trucks,lorry,lorries,food truck,food trucks,tow truck,dump truck,"
    "garbage truck",
    "boat": "canoe,canoes,kayak,kayaks,yacht,yachts,ferry,ferries,raft,rafts,speedboat,speedboats,rowboat,rowboats,"
    "tugboat,tugboats,sail boat,sail boats,row boat,row boats,motorboat,motorboats,gondola,gondolas,barge,barges,"
    "dinghy",
    "traffic light": "traffic signal,traffic signals,stop light,stop lights,street signal",
    "fire hydrant": "fireplug,fire plug",
    "stop sign": "stopsign,stopsigns",
    "parking meter": "parking metre,parking metres",
    "bench": "park bench,park benches",
    "bird": "pigeon,pigeons,seagull,seagulls,sea gull,sea gulls,gull,gulls,duck,ducks,goose,geese,swan,swans,parrot,"
    "parrots,parakeet,parakeets,owl,owls,eagle,eagles,hawk,hawks,ostrich,ostriches,flamingo,flamingos,pelican,"
    "pelicans,crow,crows,rooster,roosters,peacock,peacocks,heron,herons,chicks,hummingbird,hummingbirds,sparrow,"
    "sparrows,robin,penguin,penguins,turkeys,finch,cardinal,bluebird,woodpecker",
    "cat": "kitty,kitties,tabby",
    "dog": "pup,pups,puppys,doggy,poodle,poodles,beagle,dachshund,corgi,labrador,retriever,bulldog,bulldogs,terrier,"
    "terriers,chihuahua,pug,pugs,collie,dalmatian,greyhound,husky,rottweiler,sheep dog,sheepdog,german shepherd,"
    "sheep dogs",
    "horse": "pony,ponies,colt,colts,stallion,foal,foals,mare",
    "sheep": "ram,rams,ewe,ewes",
    "cow": "bull,bulls,calf,calves,ox,oxen,steer,steers",
    "elephant": "baby elephant,baby elephants",
    "bear": "polar bear,polar bears,grizzly,grizzlies,bear cub,bear cubs,panda,pandas",
    "backpack": "back pack,back packs,knapsack,rucksack",
    "umbrella": "parasol,parasols",
    "handbag": "hand bag,hand bags,pocketbook",
    "tie": "necktie,neckties,neck tie,neck ties,bow tie,bow ties,bowtie,bowties",
    "suitcase": "suit case,suit cases,baggage,briefcase,briefcases",
    "frisbee": "frisbie,frisby,flying disc,flying disk",
    "snowboard": "snow board,snow boards",
    "sports ball": "baseball,baseballs,tennis ball,tennis balls,soccer ball,soccer balls,basketball,basketballs,"
    "football,footballs,volleyball,volleyballs,beach ball",
    "baseball glove": "mitts,baseball mitt,baseball mitts,catchers mitt",
    "baseball bat": "ball bat,ball bats",
    "skateboard": "skate board,skate boards",
    "surfboard": "surf board,surf boards,boogie board,boogie boards,paddle board,paddle boards,paddleboard,"
    "paddleboards",
    "tennis racket": "tennis racquet,tennis racquets",
    "bottle": "beer bottle,wine bottle,wine bottles,water bottle,water bottles",
    "wine glass": "wineglass,wineglasses,glass of wine,glasses of wine",
    "cup": "teacup,teacups,coffee mug,coffee mugs",
    "sandwich": "sub sandwich,burger,burgers,hamburger,hamburgers,cheeseburger,panini",
    "hot dog": "chili dog,chili dogs,corn dog,corn dogs",
    "cake": "cupcake,cupcakes,birthday cake,wedding cake,cheesecake,cheese cake",
    "chair": "armchair,armchairs,stool,stools,recliner,recliners,lawn chair,lawn chairs,rocking chair,arm chair,"
    "arm chairs",
    "couch": "loveseat,love seat,futon,settee",
    "potted plant": "houseplant,houseplants,house plant,house plants,flower pot,flower pots,flowerpot",
    "bed": "bunk bed,bunk beds",
    "dining table": "coffee table,coffee tables,kitchen table,picnic table,picnic tables",
    "toilet": "urinal,urinals,commode",
    "tv": "flat screen,flat screen tv,television set,television screen",
    "laptop": "laptop computer,laptop computers,notebook computer",
    "mouse": "computer mouse,computer mice",
    "remote": "remote control,remote controls,remote controller,remote controllers,wii remote,wii remotes,"
    "wii controller,game controller,game controllers,controller,controllers,wiimote",
    "keyboard": "computer keyboard",
    "cell phone": "mobile phone,mobile phones,smartphone,smartphones,smart phone,smart phones,iphone,iphones",
    "microwave": "microwave oven,microwave ovens",
    "oven": "stove,stoves,stovetop,stove top,stove top oven,toaster oven,toaster ovens",
    "refrigerator": "refridgerator,refridgerators,freezer",
    "book": "textbook,textbooks,notebook,notebooks",
    "clock": "clock tower,clock towers,alarm clock",
    "vase": "flower vase",
    "scissors": "scissor,pair of scissors,shears",
    "teddy bear": "teddybear,teddybears,teddies,stuffed bear,stuffed bears,toy bear,toy bears",
    "hair drier": "hair dryer,hair dryers,blow dryer,blow dryers,hairdryer,hairdryers,blow drier",
    "toothbrush": "tooth brush,tooth brushes",
}
"""Category → more words and phrases that name it, separated by commas."""

OTHER_THINGS = (
    "train track,train tracks,train station,train stations,train platform,train yard,train depot,"
    "bus stop,bus stops,bus station,bus terminal,bus depot,car park,car seat,car seats,bike rack,bike racks,bike lane,"
    "bike path,bicycle rack,bicycle racks,bicycle lane,boat dock,boat house,boat ramp,"
    "bird bath,bird house,bird feeder,bird cage,cat food,dog food,dog house,dog bed,cat bed,horse shoe,"
    "baseball field,baseball fields,baseball game,baseball games,baseball diamond,baseball player,baseball players,"
    "baseball team,baseball uniform,baseball uniforms,baseball cap,baseball hat,baseball pitcher,baseball stadium,"
    "baseball park,baseball match,baseball batter,basketball court,basketball game,basketball hoop,football field,"
    "football game,volleyball court,volleyball net,ball game,ball games,ball field,ball park,ball player,ball players,"
    "soccer field,toilet paper,toilet seat,toilet seats,toilet bowl,toilet tank,toilet brush,toilet lid,"
    "bed room,bed spread,bed sheet,bed sheets,book shelf,book shelves,book case,book bag,"
    "pizza box,pizza boxes,pizza cutter,cake pan,cake stand,cup holder,knife block,table cloth,table top,table tennis,"
    "chair lift,ski lift,carrot cake,banana split,banana bread,apple pie,apple juice,apple computer,apple laptop,"
    "mouse pad,phone booth,phone booths,telephone booth,tv stand,tv show,remote area,remote location,remote field,"
    "bat man,tie dye,tie dyed,plant life,orange juice,power plant,pitcher of,ship yard,plane ticket,jet ski,jet skis,"
    "jet stream,air craft carrier,aircraft carrier,truck bed,bull dog,bull dogs"
)
"""Phrases that have the word of an object and name another thing, separated by commas.

A phrase of this list that still has an object in it names that object: see `STILL_NAMED`.
"""

STILL_NAMED: dict[str, str] = {
    "baseball player": "person",
    "baseball players": "person",
    "baseball pitcher": "person",
    "baseball batter": "person",
    "ball player": "person",
    "ball players": "person",
    "toilet seat": "toilet",
    "toilet seats": "toilet",
    "toilet bowl": "toilet",
    "toilet tank": "toilet",
    "toilet lid": "toilet",
    "carrot cake": "cake",
    "truck bed": "truck",
    "bull dog": "dog",
    "bull dogs": "dog",
    "apple laptop": "laptop",
    "table cloth": "dining table",
    "table top": "dining table",
}
"""Phrase → the one object in it."""


def _chair_names() -> dict[Phrase, str | None]:
    """The table of CHAIR: phrase of lower-case words → category, or None for another thing."""
    label_names: dict[str, list[str]] = {}
    for category in CATEGORIES:
        more = [name for name in MORE_NAMES.get(category, "").split(",") if name]
        label_names[category] = [category, plural(category), *EVERYDAY_NAMES.get(category, "").split(), *more]
    label_names["orange"] = ["oranges"]  # the singular is mostly the color
    names = phrases(label_names)
    names |= dict.fromkeys((tuple(phrase.split()) for phrase in OTHER_THINGS.split(",")), None)
    return names | {tuple(phrase.split()): category for phrase, category in STILL_NAMED.items()}


CHAIR_NAMES = _chair_names()
"""Phrase → category, or None: what `captioner.text.object_words.labels_named` reads."""
